"""Coverage-guided fuzzing by atheris: ``python -m tests.fuzz [TARGET …] [--seconds 60] [--keep]``.

Starts from the made seeds and the kept corpus. An input that breaks a target ends the run with an
error and is written to ``--broken``. With ``--keep``, what was found is boiled down to the fewest
inputs that reach as much, and they replace ``tests/fuzz/corpus/TARGET``. Needs the extra ``fuzz``.
"""

import argparse
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS, seeds

RUN = [sys.executable, "-m", "tests.fuzz.run"]

LARGEST_BYTES = 16 * 1024
"""Of an input: enough for every part of a format, and little enough to try many."""


def main() -> int:
    """Fuzz some targets, one after the other; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="replace the corpus by what was found")
    parser.add_argument("--broken", type=Path, default=Path(), help="folder for what breaks one")
    options = parser.parse_args()
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    for target in options.targets or TARGETS:
        with tempfile.TemporaryDirectory(prefix="gsop-fuzz-") as folder:
            found, merged = Path(folder, "found"), Path(folder, "merged")
            write(found, list(seeds(target)))
            print(f"── {target}: {options.seconds} s from {len(list(found.iterdir()))} inputs")
            flags = [
                f"-max_total_time={options.seconds}",
                f"-seed={options.seed}",
                f"-max_len={LARGEST_BYTES}",
                "-timeout=10",  # one input may take so long
                "-rss_limit_mb=2048",
                f"-artifact_prefix={options.broken}/broken-{target}-",
                "-print_final_stats=1",
            ]
            status = subprocess.run([*RUN, target, *flags, str(found)], check=False).returncode
            if status:
                return status
            if options.keep:
                merged.mkdir()
                merge = [*RUN, target, "-merge=1", str(merged), str(found)]
                subprocess.run(merge, check=True)
                replace(target, merged)
    return 0


def write(folder: Path, inputs: list[bytes]) -> None:
    """One file for each input, named by its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / sha256(data).hexdigest()[:16]).write_bytes(data)


def replace(target: str, merged: Path) -> None:
    """Have the corpus hold what was found, without the seeds: they are made again each time."""
    made = set(seeds(target, corpus=False))
    folder = CORPUS / target
    for file in folder.glob("*"):
        file.unlink()
    write(folder, [data for file in merged.iterdir() if (data := file.read_bytes()) not in made])
    kept = [file.stat().st_size for file in folder.iterdir()]
    print(f"── {target}: {len(kept)} inputs of {sum(kept)} bytes are kept")


if __name__ == "__main__":
    sys.exit(main())

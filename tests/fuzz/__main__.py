"""Coverage-guided fuzzing by atheris: ``python -m tests.fuzz TARGET [--seconds 60]``.

New inputs that reach new code are written to ``--corpus`` (a temporary folder if absent); an input
that breaks a target is written beside it and ends the run with an error. Needs the extra ``fuzz``.
"""

import argparse
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["app", "PIL", "python_multipart"]):
    from tests.fuzz.targets import TARGETS, seeds


def main() -> None:
    """Fuzz one target; atheris ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    folder = options.corpus or Path(tempfile.mkdtemp(prefix="gsop-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds(options.target):
        (folder / sha256(seed).hexdigest()[:16]).write_bytes(seed)
    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        "-timeout=10",  # one input may take so long
        "-rss_limit_mb=2048",
        "-max_len=65536",
        f"-artifact_prefix={folder}/broken-",
        "-print_final_stats=1",
        str(folder),
    ]
    atheris.Setup(arguments, TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Make the wheel of a commit: the same bytes whoever makes it, where and when.

    python -m deploy.wheel --output dist

What goes in is what is committed, with the modes that git knows; times are the commit's, and the
tools are those of deploy/build-constraints.txt.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent.parent
TOOLS = SOURCE / "deploy" / "build-constraints.txt"


def make(output: Path, commit: str = "HEAD") -> Path:
    """Make it; its path.

    Args:
        output: the folder that it is written to.
        commit: of this repository.

    Raises:
        subprocess.CalledProcessError: if there is no such commit, or it cannot be built.
    """
    time = _git("log", "-1", "--format=%ct", commit).decode().strip()
    archive = _git("-c", "tar.umask=0022", "archive", "--format=tar", commit)
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory(prefix="gsop-wheel-") as folder, _empty(output) as built:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        subprocess.run(
            [uv, "build", "--quiet", "--wheel", "--build-constraint", TOOLS, "--out-dir", built],
            cwd=folder,
            env=os.environ | {"SOURCE_DATE_EPOCH": time},
            umask=0o022,  # the modes of what is written while it is built
            check=True,
        )
        (wheel,) = Path(built).glob("*.whl")
        return wheel.replace(output / wheel.name)


def _empty(output: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder beside what is there already."""
    output.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=output, prefix=".wheel-")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", SOURCE, *arguments], capture_output=True, check=True)
    return done.stdout


def main() -> None:
    """Make it, and print its hash."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=SOURCE / "dist")
    parser.add_argument("--commit", default="HEAD")
    options = parser.parse_args()
    if options.commit == "HEAD" and _git("status", "--porcelain", "--untracked-files=no"):
        print("what is not committed is not in it", file=sys.stderr)
    wheel = make(options.output, options.commit)
    print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel}")


if __name__ == "__main__":
    main()

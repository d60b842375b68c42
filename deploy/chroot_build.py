"""Carry out the Dockerfile in a folder that holds a Debian userland, without Docker.

    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm ROOT
    python deploy/chroot_build.py ROOT          # its ENV, WORKDIR, COPY and RUN steps
    python deploy/chroot_build.py ROOT --run    # its CMD, as its USER, until Ctrl-C

For machines that have no container engine, CI among them: it shows that the steps need nothing but
Python, and that the service runs as an ordinary user who can write nowhere. Needs root, for chroot.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent

PASSED_ON = ("SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
"""What a build behind a proxy needs to reach the package registry."""


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, with continued lines joined and comments dropped."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, rest = line.strip().partition(" ")
            yield keyword.upper(), rest.strip()


class Userland:
    """A folder that becomes an image, step by step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
        }
        self.environment |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.folder = "/"
        self.user = "root"
        self.command: list[str] = []

    def carry_out(self, keyword: str, rest: str, *, build: bool) -> None:
        """One instruction; COPY and RUN only where ``build`` says so."""
        match keyword:
            case "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    self.environment[name] = re.sub(
                        r"\$(\w+)", lambda m: self.environment.get(m[1], ""), value
                    )
            case "WORKDIR":
                self.folder = rest
            case "USER":
                self.user = rest
            case "CMD":
                self.command = shlex.split(rest.strip("[]").replace(",", " "))
            case "COPY" if build:
                self._copy(shlex.split(rest))
            case "RUN" if build:
                print("RUN", rest, flush=True)
                self.execute(["/bin/sh", "-c", rest]).check_returncode()

    def _copy(self, words: list[str]) -> None:
        target = self.root / os.path.normpath(f"{self.folder}/{words[-1]}").lstrip("/")
        for name in words[:-1]:
            source = SOURCE / name
            if source.is_dir():
                shutil.copytree(
                    source,
                    target,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"),
                )
            else:
                into = target / source.name if words[-1].endswith("/") else target
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, into)

    def execute(self, command: list[str]) -> "subprocess.CompletedProcess[bytes]":
        """Run a command inside, as the user that the Dockerfile has set so far."""
        inside = ["/usr/sbin/chroot", f"--userspec={self.user}", str(self.root)]
        script = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        return subprocess.run([*inside, "/bin/sh", "-c", script], env=self.environment, check=False)


def main() -> int:
    """Build or run; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder with a Debian userland")
    parser.add_argument("--run", action="store_true", help="run CMD instead of building")
    options = parser.parse_args()
    # As an image has it: the base image's interpreter is called `python`.
    python = options.root / "usr/local/bin/python"
    if not python.is_symlink():
        python.symlink_to("/usr/bin/python3")
    userland = Userland(options.root)
    for keyword, rest in instructions((SOURCE / "Dockerfile").read_text(encoding="utf-8")):
        userland.carry_out(keyword, rest, build=not options.run)
    return userland.execute(userland.command).returncode if options.run else 0


if __name__ == "__main__":
    sys.exit(main())

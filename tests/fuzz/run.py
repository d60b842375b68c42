"""One run of libFuzzer over one target: ``python -m tests.fuzz.run TARGET FLAG… FOLDER…``."""

import shlex
import sys

import atheris

with atheris.instrument_imports(include=["gsop", "PIL", "python_multipart"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target, *flags = sys.argv[1:]
    # To merge, libFuzzer starts "itself" again and again by a shell: this is how.
    itself = shlex.join([sys.executable, "-m", "tests.fuzz.run", target])
    atheris.Setup([itself, *flags], TARGETS[target])
    atheris.Fuzz()

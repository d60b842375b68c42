"""Make the Python messages of the Open Inference Protocol's proto; needs grpcio-tools.

    python -m deploy.protocol

They get a pool of descriptors of their own: two copies of one proto cannot be in the same, and
clients that bring the whole proto may live in a process with the service.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "app" / "gsop" / "api" / "oip"
PROTO = FOLDER / "inference.proto"
MADE = FOLDER / "inference_pb2.py"

DEFAULT_POOL = "_descriptor_pool.Default()"


def make() -> str:
    """The text of the Python module."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(
            ["protoc", f"--proto_path={FOLDER}", f"--python_out={folder}", PROTO.name]
        )
        if status:
            sys.exit(status)
        text = (Path(folder) / MADE.name).read_text(encoding="utf-8")
    if text.count(DEFAULT_POOL) != 1:
        sys.exit("protoc writes other modules than it did: look at what it makes")
    return text.replace(DEFAULT_POOL, "_descriptor_pool.DescriptorPool()")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the module."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    MADE.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()

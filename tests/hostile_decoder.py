"""A decoder that does to its process what hostile images might do to a real one."""

import os
import signal
import time
from typing import Any

import numpy as np

from gsop.serving import decoder


def decode_into(data: bytes, out: np.ndarray[Any, Any], *_: object, **__: object) -> None:
    """Do what ``data`` says; else fill ``out`` with its first byte."""
    match data:
        case b"loop":
            while True:
                pass
        case b"sleep":
            time.sleep(3600)
        case b"block signals":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            time.sleep(3600)
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"abort":
            os.abort()
        case b"exit":
            os._exit(0)
        case b"raise":
            raise KeyError("the secret of a client")
        case b"eat":
            eaten = np.empty(4 * 2**30, np.uint8)  # never touched: only a limit refuses it
            raise AssertionError(f"{eaten.nbytes} bytes were there")
        case _:
            out[...] = data[0]


def main(plan: str, connection: int, shared: int) -> None:
    """Be a decoder, with the above in place of the real decoding."""
    setattr(decoder, "decode_into", decode_into)  # noqa: B010  # mypy: it is not exported there
    decoder.main(plan, connection, shared)

"""What tells an engine's loop that its device is done, while the loop waits for messages.

A loop that waited for the device itself could not launch what comes meanwhile, and a device that
can have two batches would have one, whenever the second came a moment after the first.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Bell:
    """Waits for the device in a thread of its own, and is then readable, for a selector."""

    def __init__(self) -> None:
        self._heard, self._struck = os.pipe()
        os.set_blocking(self._heard, False)
        self._waits: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="bell", daemon=True).start()

    def fileno(self) -> int:
        """To be watched for reading."""
        return self._heard

    def ring_after(self, wait: Callable[[], Any]) -> None:
        """Ring once when ``wait`` has returned or raised, after all that was asked before."""
        self._waits.put(wait)

    def rings(self) -> int:
        """How often it has rung since this was asked last."""
        try:
            return len(os.read(self._heard, 4096))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Ring no more. A thread that waits for a device that hangs is left to it."""
        self._waits.put(None)
        os.close(self._heard)

    def _run(self) -> None:
        while (wait := self._waits.get()) is not None:
            with contextlib.suppress(Exception):  # whoever takes the result is told
                wait()
            with contextlib.suppress(BrokenPipeError):  # closed meanwhile
                os.write(self._struck, b"\0")
        os.close(self._struck)

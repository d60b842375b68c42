"""What instances share: a Redis that can be away."""

import subprocess
from pathlib import Path

from tests.support import eventually


class Store:
    """A Redis on a socket of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.path), "--save", ""]
        self._process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self.path.exists)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.path.unlink(missing_ok=True)

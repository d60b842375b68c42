"""What the page costs the service: closed, and open before some eyes.

    python -m benchmarks.page --viewers 0 1 20

A page that is seen asks ``GET /status`` every two seconds. As many connections do so here as there
are viewers, and nobody sends an image; the figure is the processor time of all of the service's
processes, as a share of one core, by turns.
"""

import argparse
import threading
import time
from contextlib import closing

from benchmarks import bodies, models
from benchmarks.serve import save
from benchmarks.servers import Server, ours
from benchmarks.summary import figure, markdown

EVERY_SECONDS = 2.0
"""As ``app/gsop/web/live.js`` has it."""


class Viewers:
    """Those who have the page open. A context manager.

    Args:
        server: that they look at.
        count: of them.

    Attributes:
        looks: answers that they had.
    """

    def __init__(self, server: Server, count: int) -> None:
        self.looks = 0
        self._server, self._ended, self._lock = server, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._look) for _ in range(count)]

    def __enter__(self) -> "Viewers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        with closing(self._server.connect()) as connection:
            while not self._ended.is_set():
                connection.request("GET", "/status")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"/status answers {answer.status}")
                with self._lock:
                    self.looks += 1
                self._ended.wait(EVERY_SECONDS)


def share_of_a_core(server: Server, viewers: int, seconds: float) -> float:
    """Processor seconds a second of the service while so many look."""
    with Viewers(server, viewers) as those:
        time.sleep(1)
        meter, began = server.cpu(), time.monotonic()
        time.sleep(seconds)
        found = meter.seconds() / (time.monotonic() - began)
    if viewers and those.looks < viewers:
        raise RuntimeError("not everybody saw something")
    return found


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--viewers", type=int, nargs="+", default=[0, 1, 20])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--name", help="of the result's file; not written if empty")
    chosen = parser.parse_args()
    body = bodies.jpeg("small")
    with Server(ours(), "digits", models.DIGITS.parent, body) as server:
        time.sleep(3)  # what is left of the start
        rounds = [
            {str(n): share_of_a_core(server, n, chosen.seconds) for n in chosen.viewers}
            for _ in range(chosen.rounds)
        ]
    rows = [
        [count, figure([100 * seen[count] for seen in rounds], 2), f"{len(rounds)}"]
        for count in rounds[0]
    ]
    print(markdown(("who look", "% of a core", "rounds"), rows))
    if chosen.name:
        print(f"saved {save(chosen.name, {'setting': vars(chosen), 'rounds': rounds})}")


if __name__ == "__main__":
    main()

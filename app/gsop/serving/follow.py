"""Bring the service to what is wanted, at start and whenever that changes."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from gsop.errors import ConfigError, GSoPError
from gsop.serving.desired import Desired
from gsop.serving.versions import Versions

log = logging.getLogger("gsop.supervisor")

LOOK_SECONDS = 1.0
"""How often a file is looked at. It is read whole: a ConfigMap is a link that is replaced."""

RETRY_SECONDS = 5.0
"""Before what did not work is tried again, and twice as long each time after that..."""

MOST_RETRY_SECONDS = 300.0
"""...but no longer than this."""


class Wish(Protocol):
    """What says what is wanted: a file, or a remote store."""

    @property
    def path(self) -> Path | str:
        """Where it is."""

    def changed(self) -> bool:
        """Whether it says something else than was read; asked every second."""

    def read(self) -> Desired | None:
        """What it says; ``None`` for nothing.

        Raises:
            ConfigError: if it cannot be read.
        """


def reconcile(versions: Versions, desired: Desired, who: str) -> list[str]:
    """Load, spread and unload until it is as wanted; what did not work, in words.

    What is to get requests is loaded before it gets them, and what nobody wants is unloaded at
    last. What does not work leaves the rest as it is wanted.
    """
    faults: list[str] = []

    def attempt(what: Callable[[], object]) -> None:
        try:
            what()
        except GSoPError as error:
            faults.append(str(error))

    wanted = set()
    for name, model in desired.models.items():
        for version in dict.fromkeys([*model.versions, *model.loaded]):
            wanted.add((name, version))
            attempt(partial(versions.load, name, version, who=who))
        if (
            name not in (shares := versions.book.all_shares)
            or shares[name].traffic != model.traffic
        ):
            attempt(partial(versions.shares.set, name, model.traffic, who=who))
    for name, version in set(versions.book.manifests) - wanted:
        attempt(partial(versions.unload, name, version, who=who, force=True))
    return faults


class Follower:
    """Watches a wish in a thread.

    What did not work is tried again, after longer and longer: another change may have been under
    way, or a version may not have been in the store yet.

    Args:
        versions: what is changed.
        wish: what is followed.
        is_stopping: whether the service ends, after so many seconds at most.
        is_done: whether everything is as was wanted when that was read last.
    """

    def __init__(
        self,
        versions: Versions,
        wish: Wish,
        is_stopping: Callable[[float], bool],
        *,
        is_done: bool,
    ) -> None:
        self._versions = versions
        self._wish = wish
        self._is_stopping = is_stopping
        self._is_done = is_done
        self._thread = threading.Thread(target=self.follow, name="follow", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def follow(self) -> None:
        """Look again and again."""
        pause, looked = RETRY_SECONDS, time.monotonic()
        while not self._is_stopping(LOOK_SECONDS):
            if self._wish.changed():
                pause = RETRY_SECONDS
            elif self._is_done or time.monotonic() < looked + pause:
                continue
            else:
                pause = min(2 * pause, MOST_RETRY_SECONDS)
            self._is_done = self._look()
            looked = time.monotonic()

    def _look(self) -> bool:
        """Bring the service to what is wanted now; false if that is to be tried again."""
        try:
            desired = self._wish.read()
        except ConfigError as error:
            log.error("what is served stays as it is: %s", error)
            return True
        if desired is None:
            return True
        faults = reconcile(self._versions, desired, str(self._wish.path))
        for fault in faults:
            log.error("%s is not followed in everything: %s", self._wish.path, fault)
        return not faults

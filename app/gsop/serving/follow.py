"""Bring the service to what a file says is wanted, at start and whenever it changes."""

import logging
import threading
from collections.abc import Callable

from gsop.errors import ConfigError, GSoPError
from gsop.serving.desired import Desired, DesiredFile
from gsop.serving.versions import Versions

log = logging.getLogger("gsop.supervisor")

LOOK_SECONDS = 1.0
"""How often the file is looked at. It is read whole: a ConfigMap is a link that is replaced."""


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
            attempt(lambda n=name, v=version: versions.load(n, v, who=who))  # type: ignore[misc]  # mypy knows no lambda's defaults
        if (
            name not in (shares := versions.book.all_shares)
            or shares[name].traffic != model.traffic
        ):
            attempt(lambda n=name, t=model.traffic: versions.shares.set(n, t, who=who))  # type: ignore[misc]
    for name, version in set(versions.book.manifests) - wanted:
        attempt(lambda n=name, v=version: versions.unload(n, v, who=who, force=True))  # type: ignore[misc]
    return faults


class Follower:
    """Watches the file in a thread.

    Args:
        versions: what is changed.
        file: what is followed.
        is_stopping: whether the service ends.
    """

    def __init__(
        self, versions: Versions, file: DesiredFile, is_stopping: Callable[[float], bool]
    ) -> None:
        self._versions = versions
        self._file = file
        self._is_stopping = is_stopping
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def _follow(self) -> None:
        while not self._is_stopping(LOOK_SECONDS):
            if self._file.changed():
                self.look()

    def look(self) -> None:
        """Bring the service to what the file says now."""
        try:
            desired = self._file.read()
        except ConfigError as error:
            log.error("what is served stays as it is: %s", error)
            return
        if desired is not None:
            for fault in reconcile(self._versions, desired, str(self._file.path)):
                log.error("%s is not followed in everything: %s", self._file.path, fault)

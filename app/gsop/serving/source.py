"""Where the versions come from that are loaded: the store on disk, or a remote one's copy."""

import logging
import time
from collections.abc import Sequence

from gsop.errors import StoreError, UnknownModel
from gsop.serving.desired import Desired, DesiredModel
from gsop.settings import Settings
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest
from gsop.store.mirror import Mirror
from gsop.store.remote import Remote

log = logging.getLogger("gsop.supervisor")


class Source:
    """What can be loaded. Its methods may be called in any thread.

    Args:
        settings: say where the store is.

    Attributes:
        mirror: the copy of the remote store, if there is one.

    Raises:
        SetupError: if the settings name a remote store that cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.model_store
        self.mirror: Mirror | None = None
        if settings.remote_store:
            remote = Remote(settings.remote_store)
            self.mirror = Mirror(self._folder, remote, most_bytes=settings.store_bytes)

    def resolve(self, reference: str) -> Manifest:
        """What ``name`` (its newest version) or ``name/version`` means, there to be loaded.

        Raises:
            StoreError: if there is no such version, or it cannot be had.
        """
        if self.mirror is None:
            return resolve(self._folder, reference)
        name, _, version = reference.partition("/")
        if version:
            self.mirror.fetch(name, version)
            return resolve(self._folder, reference)
        return self._newest(name)

    def _newest(self, name: str) -> Manifest:
        """The newest version that can be had."""
        assert self.mirror is not None  # noqa: S101  # else the disk has it
        failed: StoreError | None = None
        for version in reversed(self.mirror.index().of(name)):
            try:
                return self.resolve(f"{name}/{version}")
            except StoreError as error:
                log.error("%s/%s is left out: %s", name, version, error)
                failed = failed or error
        raise failed or StoreError(f"{self.mirror.remote.where} holds no version of {name}")

    def bring(self, name: str, version: str) -> None:
        """Have a version on the disk, if it is somewhere.

        Raises:
            UnknownModel: if it is not.
            StoreError: if it cannot be had, or is not what the store's index says.
        """
        if self.mirror is None:
            if not (self._folder / name / version).exists():
                raise UnknownModel(f"the store has no {name}/{version}")
            return
        if f"{name}/{version}" not in self.mirror.index().versions:
            raise UnknownModel(f"{self.mirror.remote.where} has no {name}/{version}")
        self.mirror.fetch(name, version)

    def release(self, name: str, version: str) -> None:
        """A version is not loaded any more."""
        if self.mirror is not None:
            self.mirror.release(name, version)


class NewestVersions:
    """A remote store's newest versions as what is wanted (:class:`gsop.serving.follow.Wish`).

    Args:
        mirror: of the store.
        references: what the service was told to load: ``name`` is followed, ``name/version`` stays.
        seconds: how often the store is asked.
    """

    def __init__(self, mirror: Mirror, references: Sequence[str], seconds: float) -> None:
        self.path = mirror.remote.where
        self._mirror = mirror
        self._references = references
        self._seconds = seconds
        self._asked = time.monotonic()
        self._seen: Desired | None = self._wanted(seconds)

    def changed(self) -> bool:
        """Whether there is something newer than was read."""
        if time.monotonic() < self._asked + self._seconds:
            return False
        self._asked = time.monotonic()
        return self._wanted(self._seconds) != self._seen

    def read(self) -> Desired | None:
        """What is newest now."""
        self._seen = self._wanted(self._seconds)
        return self._seen

    def _wanted(self, seconds: float) -> Desired | None:
        try:
            index = self._mirror.index(seconds)
        except StoreError as error:
            log.error("what is served stays as it is: %s", error)
            return None
        wanted: dict[str, list[str]] = {}
        for reference in self._references:
            name, _, version = reference.partition("/")
            if found := version or next(iter(reversed(index.of(name))), ""):
                wanted.setdefault(name, []).append(found)
        models = {
            name: DesiredModel(stable=first, loaded=tuple(rest))
            for name, (first, *rest) in wanted.items()
        }
        return Desired(models=models) if models else None

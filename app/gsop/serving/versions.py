"""Loading and unloading: which versions the service has.

One change at a time, as each is a generation of its own. Shares of traffic change meanwhile
(:mod:`~gsop.serving.shares`).
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gsop.arena.states import EngineState
from gsop.errors import Conflict, LoadFailed, NotReady, StoreError, UnknownModel
from gsop.serving.book import Key, VersionBook
from gsop.serving.engine_set import EngineSet
from gsop.serving.rollout import Rollout
from gsop.serving.shares import ShareControl
from gsop.serving.source import Source
from gsop.serving.status import VersionStatus
from gsop.serving.supervisor import Supervisor
from gsop.serving.traffic import Traffic
from gsop.store.catalog import resolve
from gsop.store.manifest import Manifest

PATIENCE_SECONDS = 30.0
"""How long a change waits for the start to be noticed as done: ``/readyz`` may tell it earlier."""


@dataclass
class _Load:
    """A load that is under way, for those who ask for the same meanwhile."""

    key: Key
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Versions:
    """The versions of one service. All methods may be called in any thread.

    Attributes:
        book: what is known of them.
        shares: changes how requests are spread.
    """

    def __init__(self, supervisor: Supervisor, book: VersionBook, source: Source) -> None:
        settings = supervisor.memory.settings
        self.book = book
        self.shares = ShareControl(book)
        self._supervisor = supervisor
        self._source = source
        self._folder = settings.model_store
        self._rollout = Rollout(supervisor, settings.load_seconds)
        self._changing = threading.Lock()
        self._load: _Load | None = None
        self._has_begun = threading.Event()

    def wait_first(self) -> bool:
        """Whether the versions that the service starts with have become ready."""
        supervisor = self._supervisor
        first = supervisor.present
        if not first.wait_ready(float("inf"), lambda: supervisor.is_stopping):
            return False
        for key in list(self.book.manifests):
            self.book.enter(key, "ready")
        self._measure()
        self._has_begun.set()
        return True

    def load(
        self,
        name: str,
        version: str,
        *,
        who: str,
        unload_first: bool = False,
        sha256: str | None = None,
    ) -> VersionStatus:
        """Load a version beside those that are; of a model without any, it gets all requests.

        Args:
            name: of the model.
            version: of it.
            who: asks for it.
            unload_first: end the engines that serve before those that are to serve are started.
            sha256: of the weights that it must have.

        Raises:
            UnknownModel: if the store has no such version.
            NotReady: if the versions that the service starts with are not loaded yet.
            Conflict: if another version is being loaded or unloaded, or the store has other weights
                than those that are asked for, or that are loaded under that name.
            LoadFailed: if it cannot be loaded.
        """
        key = (name, version)
        manifest = self._stored(key, sha256)
        self._wait_for_start()  # without the lock, which the start needs to be done
        with self.book.lock:
            if key in self.book.manifests:
                return self._loaded(key, manifest)
            load = self._load
            joined = load is not None and load.key == key
            if not joined:
                self._begin_change()
                load = self._load = _Load(key)
        assert load is not None, "joined, or begun"  # noqa: S101
        if joined:
            load.done.wait()
        else:
            self._run(load, manifest, who, unload_first=unload_first)
        if load.error is not None:
            raise load.error
        return self.book.status(key)

    def unload(self, name: str, version: str, *, who: str, force: bool = False) -> VersionStatus:
        """Unload a version.

        Args:
            name: of the model.
            version: of it.
            who: asks for it.
            force: take its share of the requests first, if it is a canary or a shadow.

        Raises:
            UnknownModel: if it is not loaded.
            Conflict: if it gets requests, or another change is under way.
            LoadFailed: if the engines that are to serve without it do not come.
        """
        key = (name, version)
        self._wait_for_start()
        self._begin_change()
        try:
            with self.book.lock:
                if key not in self.book.manifests:
                    raise UnknownModel(f"{name}/{version} is not loaded")
                self.shares.free(name, version, who=who, force=force)
            kept = {k: m for k, m in self.book.manifests.items() if k != key}
            self.book.enter(key, "draining")
            try:
                self._change_to(kept, left=key)
            except LoadFailed:
                self.book.enter(key, "ready")
                raise
            self.book.changed(name, who, f"{version} unloaded")
            return self.book.status(key)
        finally:
            self._changing.release()

    def _wait_for_start(self) -> None:
        if not self._has_begun.wait(PATIENCE_SECONDS):
            raise NotReady("the versions that the service starts with are still being loaded")

    def _begin_change(self) -> None:
        if not self._changing.acquire(blocking=False):
            raise Conflict(
                "another version is being loaded or unloaded; wait until that is done, and try "
                "again"
            )

    def _run(self, load: _Load, manifest: Manifest, who: str, *, unload_first: bool) -> None:
        key = load.key
        began = time.monotonic()
        try:
            self.book.place(key)
            self.book.enter(key, "loading")
            wanted = {**self.book.manifests, key: manifest}
            self._change_to(wanted, coming=key, unload_first=unload_first)
        except LoadFailed as error:
            load.error = error
            self._failed(key, str(error))
        except Conflict as error:
            load.error = error
        except Exception as error:  # a defect must not leave it loading for ever
            load.error = LoadFailed("an unforeseen error; the log says which")
            self._failed(key, f"an unforeseen error: {type(error).__name__}")
            raise
        else:
            seconds = time.monotonic() - began
            with self.book.lock:
                self.book.enter(key, "ready", seconds=seconds)
                if key[0] not in self.book.all_shares:
                    self.book.share(key[0], Traffic(stable=key[1]))
                self.book.changed(key[0], who, f"{key[1]} loaded in {seconds:.1f} s")
        finally:
            self._load = None
            load.done.set()
            self._changing.release()

    def _change_to(
        self,
        manifests: Mapping[Key, Manifest],
        *,
        coming: Key | None = None,
        left: Key | None = None,
        unload_first: bool = False,
    ) -> None:
        def on_state(engines: EngineSet) -> None:
            if coming is not None and _is_warming(engines):
                self.book.enter(coming, "warming")

        def on_left() -> None:
            if left is not None:
                self.book.enter(left, "unloaded")
                self._source.release(*left)
            self._measure()

        self._rollout.change_to(
            list(manifests.values()),
            [self.book.place(key) for key in manifests],
            unload_first=unload_first,
            on_state=on_state,
            on_left=on_left,
        )
        supervisor = self._supervisor
        generation = supervisor.present.deployment.generation
        self.book.loaded(manifests, generation, supervisor.engine_memory)

    def _measure(self) -> None:
        supervisor = self._supervisor
        generation = supervisor.present.deployment.generation
        self.book.measured(generation, supervisor.engine_memory)

    def _stored(self, key: Key, sha256: str | None) -> Manifest:
        name, version = key
        try:
            if key not in self.book.manifests:  # else an outage would be in its way
                self._source.bring(name, version)
            manifest = resolve(self._folder, f"{name}/{version}")
        except StoreError as error:
            if key not in self.book.manifests:
                self._failed(key, str(error))
            raise LoadFailed(str(error)) from error
        if sha256 not in (None, manifest.sha256):
            raise Conflict(
                f"the weights of {name}/{version} have the digest {manifest.sha256}, not {sha256}"
            )
        return manifest

    def _loaded(self, key: Key, stored: Manifest) -> VersionStatus:
        if stored != self.book.manifests[key]:
            raise Conflict(
                f"{key[0]}/{key[1]} is loaded, and the store now has something else under that "
                "name: versions never change; publish it under a new one"
            )
        return self.book.status(key)

    def _failed(self, key: Key, error: str) -> None:
        if key not in self.book.manifests:
            self._source.release(*key)
        self.book.enter(key, "failed", error=error)
        self.book.changed(key[0], "the service", f"{key[1]} failed to load: {error}")


def _is_warming(engines: EngineSet) -> bool:
    return all(engine.state >= EngineState.WARMING for engine in engines.board.engines())

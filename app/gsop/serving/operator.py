"""What the supervisor does for operators: it takes orders, follows a file, watches canaries."""

import logging
import threading
from contextlib import ExitStack
from typing import Self

from gsop.serving.book import VersionBook
from gsop.serving.control import ControlServer
from gsop.serving.desired import Desired, DesiredFile
from gsop.serving.follow import Follower, Wish, reconcile
from gsop.serving.keyring import follow_keys
from gsop.serving.sharing import Sharing
from gsop.serving.source import NewestVersions, Source
from gsop.serving.supervisor import Supervisor
from gsop.serving.versions import Versions
from gsop.serving.watch import Watch
from gsop.settings import Settings
from gsop.store.manifest import Manifest

log = logging.getLogger("gsop.supervisor")


class Operator:
    """Serves those who change versions. A context manager, around a supervisor that was made.

    Attributes:
        versions: loads and unloads.
    """

    def __init__(self, supervisor: Supervisor, start: "Start") -> None:
        self._supervisor = supervisor
        self._start = start
        present = supervisor.present.deployment.manifests
        book = VersionBook(supervisor.memory, supervisor.board, present, start.file)
        self.versions = Versions(supervisor, book, start.source)
        self._stack = ExitStack()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        address = self._supervisor.memory.plan.control
        sharing = None
        if self._start.shared.shared_url:
            sharing = self._stack.enter_context(Sharing(self._supervisor, self._start.shared))
        self._stack.enter_context(ControlServer(address, self.versions, sharing))
        threading.Thread(target=self._begin, name="operator", daemon=True).start()
        watch = Watch(self._supervisor, self.versions)
        threading.Thread(
            target=watch.run, args=(self._ended.wait,), name="watch", daemon=True
        ).start()
        if (file := self._supervisor.memory.settings.api_keys_file) is not None:
            following = (self._supervisor.keeper, file, self._ended.wait)
            threading.Thread(target=follow_keys, args=following, name="keys", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._stack.close()

    def _begin(self) -> None:
        """Once what the service starts with is ready, load the rest of what is wanted."""
        if not self.versions.wait_first():
            return
        faults: list[str] = []
        if self._start.desired is not None:
            faults = reconcile(self.versions, self._start.desired, "the start")
        for fault in faults:
            log.error("not everything is as it was wanted: %s", fault)
        wish = self._start.followed
        if wish is not None:
            Follower(self.versions, wish, self._ended.wait, is_done=not faults).start()


class Start:
    """What a service begins with: what its file wants, or else what its settings say.

    Only what must be there is loaded at once: the stable versions. A canary that cannot be loaded
    does not keep a service from starting.

    Attributes:
        file: where what is wanted is kept, if it is.
        followed: what says later what is wanted, if something does.
        source: where versions come from.
        shared: the settings, with the shared store's address and its password.
        desired: what the file said.
        manifests: of the versions to begin with, the default first.

    Raises:
        SetupError: if a stable version is not to be had, or the file cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.file = DesiredFile(settings.state) if settings.state is not None else None
        self.source = Source(settings)
        self.shared = settings
        self.desired: Desired | None = self.file.read() if self.file is not None else None
        if self.desired is None:
            references = settings.models
        else:
            models = self.desired.models
            references = tuple(f"{name}/{model.stable}" for name, model in models.items())
        self.manifests: list[Manifest] = [
            self.source.resolve(reference) for reference in references
        ]
        self.followed: Wish | None = self.file if settings.follow else None
        mirror = self.source.mirror
        if settings.follow and self.file is None and mirror is not None:
            self.followed = NewestVersions(mirror, settings.models, settings.remote_seconds)

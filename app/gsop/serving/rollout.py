"""From one generation to the next: started beside it, taken over, and the old one ended.

begin ──▶ load, verify, warm up ──▶ fronts use it ──▶ the old one drains ──▶ memory handed over
  └──────── fails, hangs, dies ──▶ it alone is ended: what serves was never touched
"""

import logging
import threading
from collections.abc import Callable, Sequence

from gsop.arena.messages import ask_for_handover
from gsop.errors import ConfigError, LoadFailed
from gsop.processes.shared_memory import anonymous_memory, keep_size
from gsop.serving.engine_set import EngineSet
from gsop.serving.supervisor import Supervisor
from gsop.store.manifest import Manifest

log = logging.getLogger("gsop.supervisor")

HANDOVER_SECONDS = 10.0
"""How long an old engine may take to tell what it remembers."""

INHERIT = b"inherit"
"""Message through an engine's lifeline: with it comes what its predecessor remembered."""


class Rollout:
    """Changes the supervisor's generation. One change at a time; not thread-safe.

    Args:
        supervisor: of the service.
        load_seconds: how long a generation may take to become ready.
    """

    def __init__(self, supervisor: Supervisor, load_seconds: float) -> None:
        self._supervisor = supervisor
        self._load_seconds = load_seconds
        self._leaving: threading.Thread | None = None

    def change_to(
        self,
        manifests: Sequence[Manifest],
        places: Sequence[int],
        *,
        unload_first: bool = False,
        on_state: Callable[[EngineSet], None] = lambda _: None,
        on_left: Callable[[], None] = lambda: None,
    ) -> None:
        """Have these versions loaded, and every front use them.

        Args:
            manifests: the versions.
            places: under which each is counted.
            unload_first: end the present engines before the next are started, where a device has
                no room for both; requests wait meanwhile.
            on_state: is told again and again while the next ones start.
            on_left: is called, in another thread, when the old generation has gone.

        Raises:
            LoadFailed: if they cannot be loaded; what was loaded serves as before.
        """
        self.wait_left()
        supervisor, old = self._supervisor, self._supervisor.present
        try:
            new = supervisor.begin_generation(manifests, places)
        except (ConfigError, OSError) as error:
            raise LoadFailed(f"there is no room for another generation: {error}") from error
        if unload_first:
            self._in_place_of(old, new, on_state)
            on_left()
            return
        if reason := self._start(new, on_state):
            supervisor.end_generation(new)
            raise LoadFailed(reason)
        supervisor.use_generation(new)
        self._leaving = threading.Thread(
            target=self._leave, args=(old, new, on_left), name="leave", daemon=True
        )
        self._leaving.start()

    def wait_left(self) -> None:
        """Until no generation but the present one is there."""
        if self._leaving is not None:
            self._leaving.join()

    def _start(self, new: EngineSet, on_state: Callable[[EngineSet], None]) -> str | None:
        """Start its engines; why they are not ready, if they are not."""

        def given_up() -> bool:
            on_state(new)
            return self._supervisor.is_stopping

        new.start()
        if new.wait_ready(self._load_seconds, given_up):
            return None
        if self._supervisor.is_stopping:
            return "the service is shutting down"
        return new.failure or f"it was not ready in {self._load_seconds:g} s (GSOP_LOAD_SECONDS)"

    def _leave(self, old: EngineSet, new: EngineSet, on_left: Callable[[], None]) -> None:
        supervisor = self._supervisor
        if not supervisor.wait_drained(supervisor.memory.settings.drain_seconds):
            log.error("images still wait in an old generation: their requests are refused")
        self._bequeath(self._remembered(old), new)
        supervisor.end_generation(old)
        on_left()

    def _in_place_of(
        self, old: EngineSet, new: EngineSet, on_state: Callable[[EngineSet], None]
    ) -> None:
        """End the old engines first; if the new ones do not come, the old ones come back."""
        supervisor = self._supervisor
        supervisor.use_generation(new)
        supervisor.wait_drained(supervisor.memory.settings.drain_seconds)
        remembered = self._remembered(old)
        deployment = old.deployment
        supervisor.end_generation(old)
        reason = self._start(new, on_state)
        if reason is None:
            self._bequeath(remembered, new)
            return
        try:
            again = supervisor.begin_generation(
                deployment.manifests, deployment.places, patient=True
            )
        except (ConfigError, OSError) as error:
            raise LoadFailed(
                f"{reason}; and for what was loaded before there is no room any more ({error}): "
                "start the service again"
            ) from error
        supervisor.use_generation(again)
        supervisor.end_generation(new)
        if why := self._start(again, lambda _: None):
            log.error("what was loaded before cannot be loaded again: %s", why)
        self._bequeath(remembered, again)
        raise LoadFailed(reason)

    @staticmethod
    def _remembered(old: EngineSet) -> list[bytes]:
        """What each of its engines remembers; nothing of those that cannot tell."""
        found = []
        for engine in range(old.deployment.engines):
            try:
                address = old.deployment.engine_address(engine)
                found.append(ask_for_handover(address, HANDOVER_SECONDS))
            except OSError as error:
                log.error("engine %d takes its memory of gates with it: %s", engine, error)
                found.append(b"")
        return found

    @staticmethod
    def _bequeath(remembered: Sequence[bytes], new: EngineSet) -> None:
        for engine, data in enumerate(remembered):
            if not data:
                continue
            descriptor = anonymous_memory("gsop-inherited")
            with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor, not a path
                file.write(data)
                file.flush()
                keep_size(descriptor)
                try:
                    new.hand(engine, INHERIT, file.fileno())
                except OSError as error:
                    log.error("engine %d does not take over any memory: %s", engine, error)

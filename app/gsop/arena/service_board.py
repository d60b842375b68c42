"""What is told of the service as a whole, whichever versions it has loaded."""

import time

from gsop.arena.block import fields_of
from gsop.arena.bulletin import Writer
from gsop.arena.service import ServiceMemory
from gsop.arena.states import Phase


class ServiceBoard:
    """Reads what the supervisor and the fronts tell."""

    def __init__(self, memory: ServiceMemory) -> None:
        service = memory.view("service")
        self._phase, self._beat, self._oldest = service["phase"], service["beat"], service["oldest"]
        self._fronts = fields_of(memory.view("fronts"))

    @property
    def phase(self) -> Phase:
        """How far the service has come towards its end."""
        return Phase(self._phase.item())

    @property
    def is_draining(self) -> bool:
        """Whether new work is refused."""
        return bool(self._phase.item() == Phase.DRAINING)

    @property
    def supervisor_beat(self) -> int:
        """Monotonic ns of the supervisor's last round."""
        return int(self._beat)

    @property
    def oldest_generation(self) -> int:
        """The oldest generation that may still be asked."""
        return int(self._oldest)

    def serving_incarnation(self, front: int) -> int:
        """Which process of that front last said that it takes requests; 0 for none."""
        return int(self._fronts["serving"][front])

    def newest_generation(self, front: int) -> int:
        """The generation that gets that front's requests."""
        return int(self._fronts["newest"][front])

    def oldest_held(self, front: int) -> int:
        """The oldest generation that has an image of that front."""
        return int(self._fronts["oldest"][front])


class SupervisorBoard:
    """What the supervisor tells.

    Attributes:
        traffic: how requests are spread over versions, as :mod:`gsop.serving.traffic` has it.
        versions: what is loaded and what was changed, as :mod:`gsop.serving.versions` has it.
    """

    def __init__(self, memory: ServiceMemory) -> None:
        self._service = memory.own("service")
        self.traffic = Writer(memory.own("traffic"))
        self.versions = Writer(memory.own("versions"))
        self.keys = Writer(memory.own("keys"))
        self.show_life()

    def enter(self, phase: Phase) -> None:
        """Come nearer to the end; there is no way back."""
        self._service["phase"] = max(phase, int(self._service["phase"]))

    def show_life(self) -> None:
        """The supervisor lives now."""
        self._service["beat"] = time.monotonic_ns()

    def end_before(self, generation: int) -> None:
        """Generations before that one may not be asked any more."""
        self._service["oldest"] = generation


class FrontBoard:
    """What a front tells."""

    def __init__(self, memory: ServiceMemory, incarnation: int) -> None:
        self._fields = fields_of(memory.own("fronts"))
        self._incarnation = incarnation

    def serve(self) -> None:
        """It takes requests from now on."""
        self._fields["serving"][()] = self._incarnation

    def use(self, *, newest: int, oldest: int) -> None:
        """Which generations it has: that which gets its requests, and the oldest with an image."""
        self._fields["oldest"][()] = oldest
        self._fields["newest"][()] = newest

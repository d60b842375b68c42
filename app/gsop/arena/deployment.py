"""All that is settled before the first process of a generation starts."""

import math

from pydantic import BaseModel, ConfigDict

from gsop.images.planes import input_shape
from gsop.settings import Settings
from gsop.store.manifest import Manifest


class Deployment(BaseModel):
    """What a generation is; each of its processes reads it from the arena.

    Attributes:
        settings: the service's settings.
        manifests: the versions to load.
        places: for each of them the number under which it is counted, as long as it is known.
        address: prefix of the engines' socket addresses.
        generation: which one this is: 1, 2, …
        turn: 0 or 1; of two generations that live at a time, each has another.
    """

    model_config = ConfigDict(frozen=True)

    settings: Settings
    manifests: tuple[Manifest, ...]
    places: tuple[int, ...] = ()
    address: str
    generation: int = 1
    turn: int = 0

    @property
    def fronts(self) -> int:
        """Front processes."""
        return self.settings.front_count

    @property
    def engines(self) -> int:
        """Engine processes, one a device."""
        return len(self.settings.devices)

    @property
    def input_bytes(self) -> int:
        """Bytes of the largest model's input image."""
        return max(math.prod(self.input_shape(i)) for i in range(len(self.manifests)))

    def input_shape(self, model: int) -> tuple[int, ...]:
        """Of the input images of the model of that index: ``(H, W, 3)``, or ``(bundle,)``."""
        as_bundles = self.settings.pixels == "planes"
        return input_shape(self.manifests[model].input, as_bundles=as_bundles)

    @property
    def answer_width(self) -> int:
        """Numbers in the largest model's answer."""
        return max(m.answer.width for m in self.manifests)

    def place(self, model: int) -> int:
        """The number under which the version of that index is counted."""
        return self.places[model] if self.places else model

    def seat(self, engine: int) -> int:
        """The row in the service's memory of an engine of this generation."""
        return engine + self.engines * self.turn

    def engine_address(self, engine: int) -> str:
        """Address of an engine's Unix socket."""
        return f"{self.address}-{self.generation}-{engine}"

    def slots_of(self, front: int) -> range:
        """The slots that a front owns. No slot is shared, so none can leak to another."""
        total, fronts = self.settings.slots, self.fronts
        return range(total * front // fronts, total * (front + 1) // fronts)

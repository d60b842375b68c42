"""All that is settled before the first process starts."""

from pydantic import BaseModel, ConfigDict

from gsop.settings import Settings
from gsop.store.manifest import Manifest


class Deployment(BaseModel):
    """What the service is; each child reads it from the arena.

    Attributes:
        settings: the service's settings.
        manifests: the models to load, the first being the default.
        address: prefix of the engines' socket addresses.
        routes: the calls that are counted by name.
    """

    model_config = ConfigDict(frozen=True)

    settings: Settings
    manifests: tuple[Manifest, ...]
    address: str
    routes: tuple[str, ...] = ()

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
        return max(m.input.height * m.input.width * 3 for m in self.manifests)

    @property
    def answer_width(self) -> int:
        """Numbers in the largest model's answer."""
        return max(m.answer.width for m in self.manifests)

    def engine_address(self, engine: int) -> str:
        """Address of an engine's Unix socket."""
        return f"{self.address}-{engine}"

    def slots_of(self, front: int) -> range:
        """The slots that a front owns. No slot is shared, so none can leak to another."""
        total, fronts = self.settings.slots, self.fronts
        return range(total * front // fronts, total * (front + 1) // fronts)

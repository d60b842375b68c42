"""``gsop train``: from a recipe to a published version."""

from app.engine.predictor import find_device
from app.errors import ConfigError
from app.settings import Settings
from app.store.catalog import next_version
from app.train.loop import train
from app.train.recipe import RECIPES


def run(
    settings: Settings,
    *,
    recipe: str,
    name: str | None,
    version: str | None,
    seed: int,
    progress: bool,
) -> int:
    """Train and publish.

    Raises:
        SetupError: if the recipe, the device or the version is not to be had.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    settings.model_store.mkdir(parents=True, exist_ok=True)
    name = name or recipe
    folder = train(
        RECIPES[recipe],
        store=settings.model_store,
        name=name,
        version=version or next_version(settings.model_store, name),
        seed=seed,
        device=find_device(settings.devices[0]),
        progress=progress,
    )
    print(f"published {folder.parent.name}/{folder.name} in {folder}")
    return 0

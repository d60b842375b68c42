"""Changing a recipe: a file over a preset, and single values over both."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gsop.errors import ConfigError
from gsop.train.presets import PRESETS
from gsop.train.recipe import Recipe, validate


def find_recipe(reference: str) -> Recipe:
    """The recipe that ``reference`` names: a preset, or a file of values.

    A file (``.toml`` or ``.json``) holds a whole recipe, such as a run's ``recipe.json``, or
    ``base`` (the name of a preset) and the values that differ from it.

    Raises:
        ConfigError: if there is no such preset or file, or the values make no recipe.
    """
    if reference in PRESETS:
        return PRESETS[reference]
    path = Path(reference)
    if path.suffix not in (".toml", ".json"):
        raise ConfigError(
            f"there is no recipe {reference!r}{_nearest(reference, PRESETS)}: the presets are "
            f"{', '.join(PRESETS)}; a file of your own ends in .toml or .json"
        )
    values = _read(path)
    base = values.pop("base", None)
    if base is None:
        return validate(values, str(path))
    if base not in PRESETS:
        raise ConfigError(
            f"{path}: there is no preset {base!r}{_nearest(str(base), PRESETS)}; there are "
            f"{', '.join(PRESETS)}"
        )
    merged = PRESETS[base].model_dump(mode="json")
    _merge(merged, values, str(path), ())
    return validate(merged, str(path))


def override(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """The recipe with some values changed.

    Args:
        recipe: to start from.
        assignments: each ``key=value``, as ``optimizer.learning_rate=0.01``. A value is JSON, or
            else a text.

    Raises:
        ConfigError: if a key is none of the recipe's, or the values make no recipe.
    """
    values = recipe.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: write KEY=VALUE, as in batch_size=64")
        nested: Any = _parse(text)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(values, nested, f"--set {assignment}", ())
    return validate(values, "with these options, it")


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the recipe {path} must be a table of values")
    return values


def _merge(
    values: dict[str, Any], changes: Mapping[str, Any], where: str, above: tuple[str, ...]
) -> None:
    for key, value in changes.items():
        name = ".".join((*above, key))
        if key not in values:
            here = f" in {'.'.join(above)}" if above else ""
            raise ConfigError(
                f"{where}: a recipe has no {name!r}{_nearest(key, values)}; there are"
                f"{here} {', '.join(values)}"
            )
        if isinstance(value, Mapping) and isinstance(values[key], dict):
            _merge(values[key], value, where, (*above, key))
        else:
            values[key] = value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""

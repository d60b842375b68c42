"""Which version answers a request: the one that it names, or that its model's traffic says."""

from typing import NamedTuple

from gsop.errors import UnknownModel
from gsop.keys import ANYBODY, Caller
from gsop.serving.engines import LoadedModel
from gsop.serving.generation import Generation, Generations
from gsop.serving.traffic import Lookup, Role, Shares


class Wanted(NamedTuple):
    """What a request says about the version that is to answer it.

    Attributes:
        name: of a model, or ``name/version``; ``None``: the default one.
        version: of that model; ``None``: the one that its traffic says.
        caller: who sent it.
        header: looks its headers up.
    """

    name: str | None
    version: str | None
    caller: Caller
    header: Lookup


class Chosen(NamedTuple):
    """The version that answers a request.

    Attributes:
        generation: where it is loaded.
        model: the version.
        role: why it is this one.
        shares: of the model's traffic.
    """

    generation: Generation
    model: LoadedModel
    role: Role
    shares: Shares | None


def choose(generations: Generations, wanted: Wanted) -> Chosen:
    """The version that answers.

    Raises:
        UnknownModel: if no such version is loaded.
    """
    generation, routing = generations.present, generations.routing
    name, version = _split(wanted.name or routing.default, wanted.version)
    shares = routing.models.get(name)
    if version is not None:
        model = generation.engines.find(name, version)
        if model is not None:
            return Chosen(generation, model, "requested", shares)
    elif shares is not None:
        shared, role = shares.traffic.choose(name, _key(shares, wanted))
        # What has a share is loaded, but for the moment in which it is being unloaded.
        if (model := generation.engines.find(name, shared)) is None:
            role = "stable"
            model = generation.engines.find(name, shares.traffic.stable)
        if model is not None:
            return Chosen(generation, model, role, shares)
    asked = name if version is None else f"{name}/{version}"
    loaded = ", ".join(f"{m.manifest.name}/{m.manifest.version}" for m in generation.engines.models)
    raise UnknownModel(f"{asked} is not loaded; loaded: {loaded}")


def find_loaded(generations: Generations, name: str | None, version: str | None) -> LoadedModel:
    """A loaded version to ask about: the one that is named, or its model's stable one.

    Raises:
        UnknownModel: if it is not loaded.
    """
    routing = generations.routing
    shares = routing.models.get(name or routing.default)
    if version is None and shares is not None:
        version = shares.traffic.stable
    return choose(generations, Wanted(name, version, ANYBODY, lambda _: None)).model


def _split(name: str, version: str | None) -> tuple[str, str | None]:
    """``name/version``, as versions are written everywhere else, is both."""
    if version is None and "/" in name:
        name, _, version = name.partition("/")
    return name, version


def _key(shares: Shares, wanted: Wanted) -> str | None:
    """What the choice sticks to; a request without it is chosen for by chance."""
    sticky = shares.traffic.sticky
    if sticky is None:
        return None
    if sticky == "key":
        return wanted.caller.name or None
    return wanted.header(sticky.removeprefix("header:").lower())

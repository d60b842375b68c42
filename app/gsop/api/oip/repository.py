"""Load and unload, as the Open Inference Protocol has them: of models rather than of versions."""

from starlette.concurrency import run_in_threadpool

from gsop.api.http.service import Service
from gsop.errors import StoreError, UnknownModel
from gsop.keys import Caller
from gsop.serving.control import Load, Unload
from gsop.store.catalog import is_name, resolve


async def load(service: Service, name: str, version: str | None, caller: Caller) -> None:
    """Load a version of the store.

    Args:
        service: the front's.
        name: of the model.
        version: of it; ``None``: the newest.
        caller: who asks.

    Raises:
        UnknownModel: if the store has none.
        GSoPError: of :meth:`Versions.load`.
    """
    if not version:
        version = await run_in_threadpool(_newest, service, name)
    _check_names(name, version)
    await service.order(Load(name=name, version=version, who=_who(caller)))


async def unload(service: Service, name: str, version: str | None, caller: Caller) -> None:
    """Unload a version, whatever share of the requests it has; or all of a model, the stable last.

    Args:
        service: the front's.
        name: of the model.
        version: of it; ``None``: all that are loaded.
        caller: who asks.

    Raises:
        UnknownModel: if none is loaded.
        GSoPError: of :meth:`Versions.unload`.
    """
    shares = service.generations.routing.models.get(name)
    stable = None if shares is None else shares.traffic.stable
    loaded = [m.manifest.version for m in service.engines.models if m.manifest.name == name]
    chosen = [version] if version is not None else sorted(loaded, key=lambda v: v == stable)
    if not chosen:
        raise UnknownModel("no version of that model is loaded")
    _check_names(name, *chosen)
    for each in chosen:
        await service.order(Unload(name=name, version=each, who=_who(caller), force=True))


def _newest(service: Service, name: str) -> str:
    _check_names(name)
    try:
        return resolve(service.settings.model_store, name).version
    except StoreError as error:  # its text names the operator's files
        raise UnknownModel("the store has no version of that model that can be read") from error


def _check_names(*names: str) -> None:
    if not all(map(is_name, names)):
        raise UnknownModel("that is no name of a model or a version")


def _who(caller: Caller) -> str:
    return caller.name or "anybody"

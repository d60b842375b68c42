"""Query parameters of plain routes, judged as FastAPI judges those of its own."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from gsop.errors import InvalidParameter

Q = TypeVar("Q", bound=BaseModel)


def parse_query(kind: type[Q], text: bytes) -> Q:
    """The query of an ASGI scope; of a parameter that comes twice, the last one.

    Raises:
        InvalidParameter: if a parameter is unknown, of the wrong type or out of range.
    """
    members = dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}
    return _validated(kind, members)


def with_options(query: Q, options: Mapping[str, object]) -> Q:
    """A query with the options that came in the body.

    Raises:
        InvalidParameter: if one of them is wrong, or in both with different values.
    """
    said = query.model_dump(exclude_unset=True)
    whole = _validated(type(query), {**said, **options})
    for name in said.keys() & options.keys():
        if getattr(whole, name) != said[name]:
            raise InvalidParameter(f"{name}: the query and the body differ; say it once")
    return whole


def _validated(kind: type[Q], members: Mapping[str, object]) -> Q:
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        raise InvalidParameter(
            "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        ) from error

"""Query parameters of plain routes, judged as FastAPI judges those of its own."""

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
    try:
        return kind.model_validate(members)
    except ValidationError as error:
        raise InvalidParameter(
            "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        ) from error

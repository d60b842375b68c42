"""How a CUDA device computes, where there is more than one way: switches, to be measured.

Each way answers as the plain one does, within a bound that tests hold on the CPU; which of them is
sooner, only a GPU can say (``python -m benchmarks.gpu``). The defaults are the plain ways, and one
that cannot but be sooner.
"""

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class CudaOptions(BaseModel):
    """The switches. ``CudaOptions.parse("launch=after")`` sets one of them.

    Attributes:
        launch: the next batch ``ahead`` of the last one's books, and as soon as it is there; or
            ``after`` them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    launch: Literal["ahead", "after"] = "ahead"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The switches that ``text`` sets, comma-separated ``name=value``; defaults for the rest.

        Raises:
            ValueError: naming what is not known, and what is.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        given: dict[str, str] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name in given:
                raise ValueError(f"{name} is set twice")
            given[name] = value
        try:
            return cls(**given)  # type: ignore[arg-type]  # validated by pydantic
        except ValidationError as error:
            wrong = ", ".join(f"{e['loc'][0]}={given[str(e['loc'][0])]}" for e in error.errors())
            raise ValueError(f"{wrong}: use {cls.choices()}") from None

    @classmethod
    def choices(cls) -> str:
        """Every switch with its values, the default first: ``launch=ahead|after, ...``."""
        return ", ".join(
            f"{name}={'|'.join(get_args(field.annotation))}"
            for name, field in cls.model_fields.items()
        )

    def __str__(self) -> str:
        """What differs from the defaults, as :meth:`parse` reads it."""
        changed = self.model_dump(exclude_defaults=True)
        return ",".join(f"{name}={value}" for name, value in changed.items())

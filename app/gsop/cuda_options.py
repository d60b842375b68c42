"""How a CUDA device computes, where there is more than one way: switches, to be measured.

Each way answers as the plain one does, within a bound that tests hold on the CPU; which of them is
sooner, only a GPU can say (``python -m benchmarks.gpu``). The defaults are the plain ways, and one
that cannot but be sooner.
"""

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class CudaOptions(BaseModel):
    """The switches. ``CudaOptions.parse("convolutions=fused, sizes=fine")`` sets two of them.

    Attributes:
        convolutions: ``plain``, each with passes of their own for bias, ReLU and sum; ``fused``,
            by cuDNN's calls that do these at once; ``compiled``, by torch's compiler.
        residuals: the gated branch and the shortcut as ``plain`` operators, or in one kernel,
            ``fused`` (Triton).
        covariance: of ``centred`` features in float32, or as ``products`` of half-precision
            features, summed up in float32, less that of the means.
        positions: the first stage's gate rectifies all positions and has its convolution skip every
            second (``strided``), or rectifies no more than it takes (``sliced``).
        sizes: of the batches that graphs are recorded for: ``powers`` of two, or ``fine`` steps.
        search: ``heuristic``, cuDNN's choice of an algorithm; ``measured``, its search at warm-up.
        launch: the next batch ``ahead`` of the last one's books, and as soon as it is there; or
            ``after`` them.
        arena: images are ``staged``, copied into pinned memory batch by batch; or the slots
            themselves are ``pinned``, and the device reads them there.
        sums: of the gates' statistics on the ``host`` or on the ``device``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    convolutions: Literal["plain", "fused", "compiled"] = "plain"
    residuals: Literal["plain", "fused"] = "plain"
    covariance: Literal["centred", "products"] = "centred"
    positions: Literal["strided", "sliced"] = "strided"
    sizes: Literal["powers", "fine"] = "powers"
    search: Literal["heuristic", "measured"] = "heuristic"
    launch: Literal["ahead", "after"] = "ahead"
    arena: Literal["staged", "pinned"] = "staged"
    sums: Literal["host", "device"] = "host"

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

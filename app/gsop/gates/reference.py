"""What a version's gates look like on known images: what drift and familiarity refer to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from gsop.gates.answers import AnswerLayout
from gsop.gates.arrays import Arrays, Forms, check_arrays, digest_of
from gsop.gates.familiarity import Neighbours
from gsop.gates.population import Classes, Population, as_logits
from gsop.gates.windows import calibrate_limit

MOST_IMAGES = 20_000
"""Images that a reference is made of, at most: as many again would hardly say more."""

LEAST_IMAGES = 40
"""Fewer say too little of how gates vary."""

Values = npt.NDArray[np.floating]

_POPULATION: Forms = {
    "counts": (np.int64, "C"),
    "centre": (np.float32, "G"),
    "scale": (np.float32, "G"),
    "offsets": (np.float16, "CG"),
}
_NEIGHBOURS: Forms = {
    "projection": (np.float32, "GD"),
    "origin": (np.float32, "D"),
    "exemplars": (np.float16, "ED"),
    "classes": (np.int64, "E"),
    "typical": (np.float32, "C"),
    "known": (np.float32, "K"),
}


class Facts(BaseModel):
    """What a reference says beside its arrays.

    Attributes:
        limit: of the evidence for drift (:mod:`gsop.gates.windows`).
        repeats, shrinkage: see :class:`gsop.gates.population.Population`.
        what: which images they were, in words.
        made: when.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    repeats: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    shrinkage: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    what: Annotated[str, Field(max_length=1000)]
    made: AwareDatetime


@dataclass(frozen=True)
class Reference:
    """What live gates are compared with.

    Attributes:
        population: what drift is measured from.
        neighbours: what familiarity is measured by; ``None`` if the reference was learned from
            served images, of which nobody knows whether they are the right ones.
        facts: what else there is to say.
    """

    population: Population
    neighbours: Neighbours | None
    facts: Facts

    @classmethod
    def measure(
        cls,
        layout: AnswerLayout,
        values: Values,
        *,
        what: str,
        also: Values | None = None,
        also_groups: Classes | None = None,
    ) -> Self:
        """The reference that answers of known images make.

        Args:
            layout: of the answers.
            values: ``(N, width)``, the answers of independent images such as are to come.
            what: which images they were, in words.
            also: ``(M, width)``, the answers of other images that are to count as familiar.
            also_groups: ``(M,)``: which of the N images each of them is a variant of, by number; or
                a number of N or more.

        Raises:
            ValueError: if the network has no gates, or the images are too few.
        """
        if not layout.gate_size:
            raise ValueError("the network has no gates, so there is nothing to compare")
        if len(values) < LEAST_IMAGES:
            raise ValueError(f"{len(values)} images are too few: it takes {LEAST_IMAGES} at least")
        groups = np.arange(len(values))
        population, facts = _population(layout, values, groups, what)
        if also is not None and also_groups is not None:
            values, groups = np.concatenate([values, also]), np.concatenate([groups, also_groups])
        logits, classes = as_logits(layout.gate_values(values)), layout.winners(values)
        neighbours = Neighbours.measure(logits, classes, layout.classes, groups)
        return cls(population, neighbours, facts)

    @classmethod
    def learn(cls, layout: AnswerLayout, values: Values, groups: Classes) -> Self:
        """The reference that served images make, good or bad as they may be.

        Args:
            layout: of the answers.
            values: ``(N, width)``, their answers.
            groups: ``(N,)``: images with the same number may be alike.
        """
        what = f"the first {len(values)} images that were served"
        population, facts = _population(layout, values, groups, what)
        return cls(population, None, facts)

    @property
    def is_learned(self) -> bool:
        """Whether it is of served images, rather than of those that the version was measured on."""
        return self.neighbours is None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its facts and arrays, lower-case hexadecimal."""
        return digest_of(self.arrays, self.facts.model_dump_json())

    @property
    def arrays(self) -> Arrays:
        """All its arrays, by name; :meth:`unpack` takes them."""
        arrays: Arrays = {f"population.{n}": getattr(self.population, n) for n in _POPULATION}
        if self.neighbours is not None:
            arrays |= {f"neighbours.{n}": getattr(self.neighbours, n) for n in _NEIGHBOURS}
        return arrays

    @classmethod
    def unpack(
        cls, layout: AnswerLayout, facts: Facts, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """The reference of these facts and arrays, if they make one of that layout.

        Raises:
            ValueError: if they do not.
        """
        sizes = {"C": layout.classes, "G": layout.gate_size}
        own, near = (
            {n.removeprefix(part): a for n, a in arrays.items() if n.startswith(part)}
            for part in ("population.", "neighbours.")
        )
        if len(own) + len(near) != len(arrays):
            raise ValueError("it holds arrays that are no reference's")
        check_arrays(own, _POPULATION, **sizes)
        population = Population(**own, repeats=facts.repeats, shrinkage=facts.shrinkage)
        if population.scale.min() <= 0 or population.counts.min() < 0 or not population.images:
            raise ValueError("a gate has no scale, or there are no images")
        if not near:
            return cls(population, None, facts)
        check_arrays(near, _NEIGHBOURS, **sizes)
        neighbours = Neighbours(**near)
        if not neighbours.is_sound:
            raise ValueError("the known images are not in order")
        return cls(population, neighbours, facts)


def _population(
    layout: AnswerLayout, values: Values, groups: Classes, what: str
) -> tuple[Population, Facts]:
    """The population of answers, and what there is to say of it."""
    logits, classes = as_logits(layout.gate_values(values)), layout.winners(values)
    population = Population.measure(logits, classes, layout.classes, groups)
    residuals = population.residuals(logits, classes)
    facts = Facts(
        limit=calibrate_limit(residuals, groups, population.repeats),
        repeats=population.repeats,
        shrinkage=population.shrinkage,
        what=what,
        made=datetime.now(UTC).replace(microsecond=0),
    )
    return population, facts

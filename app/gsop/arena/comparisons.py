"""What was found where two versions answered the same images."""

from typing import NamedTuple

from gsop.arena.service import ServiceMemory


class Pair(NamedTuple):
    """Two answers to one image.

    Attributes:
        agreed: whether their likeliest classes are the same.
        moved: ``|Δp|`` of the class that is likeliest for the stable version.
        distance: mean ``|Δ|`` of the gates; ``None`` where the networks have others.
    """

    agreed: bool
    moved: float
    distance: float | None


class Comparison(NamedTuple):
    """Sums over pairs.

    Attributes:
        samples: pairs.
        agreed: of them with the same class.
        moved, moved_squared: sums of ``|Δp|``.
        gates: pairs whose gates were compared.
        distance, distance_squared: sums of the gates' distances.
    """

    samples: float = 0
    agreed: float = 0
    moved: float = 0
    moved_squared: float = 0
    gates: float = 0
    distance: float = 0
    distance_squared: float = 0


class ComparisonBook:
    """A front's row."""

    def __init__(self, memory: ServiceMemory) -> None:
        self._row = memory.own("comparisons")

    def add(self, place: int, run: int, pair: Pair) -> None:
        """Count a pair.

        Args:
            place: of the version that is compared with the stable one.
            run: which comparison it belongs to; what another one has left is begun anew.
            pair: the answers.
        """
        record = self._row[place]
        if record["run"] != run:
            self._row[place] = 0
            record["run"] = run
        record["samples"] += 1
        record["agreed"] += pair.agreed
        record["moved"] += pair.moved
        record["moved_squared"] += pair.moved**2
        if pair.distance is not None:
            record["gates"] += 1
            record["distance"] += pair.distance
            record["distance_squared"] += pair.distance**2


def comparison(memory: ServiceMemory, place: int, run: int) -> Comparison:
    """The sums over all fronts."""
    rows = memory.view("comparisons")[:, place]
    rows = rows[rows["run"] == run]
    return Comparison(*(float(rows[name].sum()) for name in Comparison._fields))

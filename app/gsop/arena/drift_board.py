"""What engines tell of drift: a few numbers for each version, for metrics and for the judge.

All else is asked for (:mod:`gsop.gates.drift_query`).
"""

from gsop.arena.layout import Arena
from gsop.gates.drift import DriftStatus


class DriftWriter:
    """What one engine tells."""

    def __init__(self, arena: Arena, incarnation: int) -> None:
        self._records = arena.own("drift")
        for model in range(len(self._records)):
            self.tell(model, DriftStatus())
        self._records["incarnation"] = incarnation

    def tell(self, model: int, status: DriftStatus) -> None:
        """How far the model of that index has drifted."""
        record = self._records[model]
        record["is_judged"] = False  # never an old score with new numbers
        record["is_learned"] = status.is_learned
        record["gates"] = status.gates
        record["images"] = status.images
        if status.score is not None:
            record["score"] = status.score
            record["is_judged"] = True


class DriftBoard:
    """Reads what all engines of a generation tell."""

    def __init__(self, arena: Arena) -> None:
        self._present = arena.view("seats")["incarnation"]
        self._records = arena.view("drift")

    def status(self, model: int) -> DriftStatus:
        """How far the model of that index has drifted, by the engine with the highest score.

        The images are those of all engines. What another process than the present one has written
        is void.
        """
        records = self._records[:, model]
        told = [
            DriftStatus(
                float(record["score"]) if record["is_judged"] else None,
                int(record["gates"]),
                int(record["images"]),
                bool(record["is_learned"]),
            )
            for record in records[records["incarnation"] == self._present]
        ]
        if not told:
            return DriftStatus()
        highest = max(told, key=lambda status: -1.0 if status.score is None else status.score)
        return highest._replace(images=sum(status.images for status in told))

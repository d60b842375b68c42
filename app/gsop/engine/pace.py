"""How long batches take, learned from those that were."""

NEWEST = 0.3
"""Weight of the newest batch in the mean."""


class Pace:
    """How long the batches of a model take, by their size to the next power of two."""

    def __init__(self, max_batch: int) -> None:
        self._ns = [0.0] * (max_batch.bit_length() + 1)

    def learn(self, size: int, ns: int) -> None:
        """Take in the duration of a batch."""
        known = self._ns[size.bit_length()]
        self._ns[size.bit_length()] = known + NEWEST * (ns - known) if known else float(ns)

    def expect(self, size: int) -> float:
        """Duration of a batch, in ns; of a smaller one where none of that size is known."""
        return next((ns for ns in reversed(self._ns[: size.bit_length() + 1]) if ns), 0.0)

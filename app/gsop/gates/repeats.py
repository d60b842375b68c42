"""Tells images that came before from new ones, by their gates."""

import numpy as np
import numpy.typing as npt

from gsop.gates.population import Floats

ALIKE = 1e-3
"""Images whose sketches differ by no more than this are one image that came again."""


class Repeats:
    """The images that were seen so far.

    Of each a *sketch* is kept: two sums of its gates under signs that are drawn once. The same
    image has the same sketch, but for what rounding differs between batches of other sizes.

    Attributes:
        seen: ``(N, 2)``, the sketches.
    """

    def __init__(self, gates: int) -> None:
        signs = np.random.default_rng(0).integers(0, 2, (gates, 2))
        self._signs = (2 * signs - 1).astype(np.float32)
        self.seen = np.zeros((0, 2), np.float32)

    def sort_out(self, gates: Floats) -> npt.NDArray[np.bool_]:
        """Which of these images come for the first time, ``(N,)``; they are seen from now on.

        Args:
            gates: ``(N, G)``.
        """
        known = len(self.seen)
        sketches = np.concatenate([self.seen, gates @ self._signs])
        order = np.argsort(sketches[:, 0], kind="stable")
        # In this order the two of a pair are neighbours, unless a third has their first sum.
        again = (np.abs(np.diff(sketches[order], axis=0)) <= ALIKE).all(axis=1)
        new = np.ones(len(sketches), np.bool_)
        new[np.maximum(order[:-1], order[1:])[again]] = False
        new[:known] = True
        self.seen = sketches[new]
        return new[known:]

    def forget(self) -> None:
        """Begin anew."""
        self.seen = self.seen[:0]

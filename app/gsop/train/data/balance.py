"""Skewed classes: how often each is drawn, and how much each image of it counts."""

import numpy as np
from numpy.typing import NDArray

from gsop.train.data.dataset import Classes
from gsop.train.data.spec import BalanceSpec

Weights = NDArray[np.float64]


def order_of_epoch(labels: Classes, draw: float, rng: np.random.Generator) -> Classes:
    """Which images one pass shows, in its order; as many as there are.

    Within a class no image is shown twice more often than another: a class that gets fewer places
    than it has images shows some of them, drawn anew in each pass; one that gets more shows all of
    them, and some again.

    Args:
        labels: the class of each image, (N,).
        draw: as of :class:`BalanceSpec`; 0 shows each image once.
        rng: the source of all randomness.

    Returns:
        Numbers of images, (N,).
    """
    if not draw:
        return rng.permutation(len(labels))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    counts = np.array([len(one) for one in members])
    shown = [_some(one, n, rng) for one, n in zip(members, _places(counts, draw, rng), strict=True)]
    return rng.permutation(np.concatenate(shown))


def loss_weights(labels: Classes, classes: int, how: BalanceSpec) -> Weights | None:
    """How much the loss of an image of each class counts, (classes,).

    The weights go by how often a class is *drawn*, so that drawing and weighing do not both make up
    for the same skew. Their mean over the images that a pass shows is 1: the learning rate means
    what it did.

    Args:
        labels: the class of each image to train on, (N,).
        classes: of the network; one without images weighs nothing.
        how: the classes are balanced.

    Returns:
        ``None`` if all weigh the same.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    there = counts > 0
    drawn = np.zeros(classes)
    drawn[there] = _shares(counts[there], how.draw)
    if not how.loss or np.ptp(drawn[there]) == 0:
        return None
    weights = np.zeros(classes)
    weights[there] = drawn[there] ** -how.loss
    return np.asarray(weights / (weights * drawn).sum())


def _shares(counts: NDArray[np.floating] | NDArray[np.integer], draw: float) -> Weights:
    """Of a pass that each class gets; together 1."""
    wanted = counts.astype(np.float64) ** (1 - draw)
    return np.asarray(wanted / wanted.sum())


def _places(counts: NDArray[np.integer], draw: float, rng: np.random.Generator) -> Classes:
    """Of a pass that each class gets, in whole images; what is left over goes by lot."""
    exact = _shares(counts, draw) * counts.sum()
    places: Classes = np.floor(exact).astype(np.int64)
    if left := int(counts.sum() - places.sum()):
        over = exact - places
        places[rng.choice(len(places), left, replace=False, p=over / over.sum())] += 1
    return places


def _some(members: Classes, places: int, rng: np.random.Generator) -> Classes:
    """So many of them: all as often as that goes into it, and some of them for the rest."""
    whole, rest = divmod(places, len(members))
    return np.concatenate([np.tile(members, whole), rng.choice(members, rest, replace=False)])

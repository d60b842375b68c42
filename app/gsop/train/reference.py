"""Makes a version's reference: what its gates look like on images that training never saw."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from gsop.gates.answers import AnswerLayout
from gsop.gates.reference import LEAST_IMAGES, MOST_IMAGES, Reference
from gsop.images import InputSpec
from gsop.model.resnet import GSoPResNet
from gsop.train.data.dataset import Sample
from gsop.train.data.some import Some
from gsop.train.evaluate import outputs

Answered = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Answers ``(N, width)``, and the places of the images that could be read, ``(N,)``."""

Answer = Callable[[Sequence[Sample]], Answered]


def make_reference(
    answer: Answer,
    layout: AnswerLayout,
    held_out: Sequence[Sample],
    variants: Mapping[str, Sequence[Sample]],
    *,
    what: str,
) -> Reference | None:
    """The reference; ``None`` if the network has no gates, or the images are too few.

    Args:
        answer: computes.
        layout: of the answers.
        held_out: what is to come is like these; of many, some.
        variants: by name, images that are to be familiar, but are not what usually comes. A kind
            with as many images as are held out is made of them, in their order.
        what: which images they are, in words.
    """
    if not layout.gate_size:
        return None
    every = max(1, -(-len(held_out) // MOST_IMAGES))
    values, places = answer(Some(held_out, range(0, len(held_out), every)))
    if len(values) < LEAST_IMAGES:
        return None
    number = {place * every: i for i, place in enumerate(places.tolist())}
    others: list[npt.NDArray[np.float32]] = []
    groups: list[int] = []
    for samples in variants.values():
        found, of = answer(samples)
        others.append(found)
        made_of = number if len(samples) == len(held_out) else {}
        own = len(values) + len(groups)
        groups += [made_of.get(place, own + i) for i, place in enumerate(of.tolist())]
    return Reference.measure(
        layout,
        values,
        what=f"{len(values)} {what}",
        also=np.concatenate(others) if others else None,
        also_groups=np.array(groups, np.int64) if others else None,
    )


def answer_with(
    model: GSoPResNet, layout: AnswerLayout, spec: InputSpec, *, device: torch.device
) -> Answer:
    """Answers of a network in evaluation mode and float32."""

    def answer(samples: Sequence[Sample]) -> Answered:
        found, places = [np.zeros((0, layout.width), np.float32)], [np.zeros(0, np.int64)]
        for batch in outputs(model, spec, samples, device=device):
            if batch.output is None:
                continue
            probabilities = batch.output.logits.softmax(dim=1)
            gates = [batch.output.gates[gate.name].flatten(1) for gate in layout.gates]
            values = layout.assemble(probabilities, gates, lambda parts: torch.cat(parts, dim=1))
            found.append(values.float().cpu().numpy())
            places.append(np.array(batch.places, np.int64))
        return np.concatenate(found), np.concatenate(places)

    return answer

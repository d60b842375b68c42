"""The arena: the slots of one generation, and what its engines tell.

=========  ==============================  ====================================================
region     shape                           written by
=========  ==============================  ====================================================
seats      ``(engines,)``                  the supervisor
engines    ``(engines,)``                  each engine its own record
drift      ``(engines, models)``           each engine its own row
requests   ``(slots,)``                    each front those of the slots that it owns
inputs     ``(slots, bytes)`` uint8        each front those of the slots that it owns
answers    ``(engines, slots)``            each engine its own row
outputs    ``(engines, slots, width)``     each engine its own row
=========  ==============================  ====================================================

What the fields mean is known to :mod:`~gsop.arena.slot`, :mod:`~gsop.arena.board` and
:mod:`~gsop.arena.drift_board` alone. What outlives a generation lies in the
:mod:`~gsop.arena.service` block.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np

from gsop.arena.block import Block, Region, Role, row, whole
from gsop.arena.deployment import Deployment
from gsop.errors import ConfigError

SEAT = np.dtype(
    [
        ("incarnation", np.uint32),  # which process is, or will be, this engine: 1, 2, …
        ("failed", np.bool_),  # the one before it never became ready
    ],
    align=True,
)
ENGINE = np.dtype(
    [
        ("incarnation", np.uint32),  # which process wrote the fields below
        ("state", np.uint8),  # EngineState
        ("epoch", np.uint32),  # how often the engine became ready
        ("beat", np.uint64),  # monotonic ns of the loop's last round
        ("busy_since", np.uint64),  # monotonic ns at which its oldest unfinished batch began, or 0
        ("batch_limit", np.uint32),  # most images in a batch
        ("fixed_seconds", np.float64),  # that a batch is expected to take, whatever its size,
        ("image_seconds", np.float64),  # and for each image; of the model that ran last
        ("memory", np.uint64),  # bytes that the process took when it had become ready
        ("device", "S64"),
        ("precision", "S16"),
    ],
    align=True,
)
DRIFT = np.dtype(
    [
        ("incarnation", np.uint32),  # which process wrote the fields below
        ("is_learned", np.bool_),  # whether the reference was learned from served images
        ("is_judged", np.bool_),  # whether there is a score
        ("score", np.float64),  # the evidence over its limit
        ("gates", np.uint32),  # numbers in the gates that are over the limit
        ("images", np.uint64),  # different images that were counted
    ],
    align=True,
)
REQUEST = np.dtype(
    [
        ("ticket", np.uint64),  # the request that holds the slot, or 0
        ("model", np.uint16),  # index into Deployment.manifests
        ("caller", np.uint16),  # whose image it is: a key's place in the settings + 1, or 0
        ("kept", np.bool_),  # whether it is remembered
        ("top_k", np.uint32),
        ("deadline", np.uint64),  # monotonic ns
        ("submitted", np.uint64),  # monotonic ns
        ("id", "S32"),  # the prediction's public id
    ],
    align=True,
)
ANSWER = np.dtype(
    [
        ("running", np.uint64),  # the last ticket that a batch was begun with
        ("done", np.uint64),  # the last ticket that is finished
        ("started", np.uint64),  # monotonic ns at which the batch began
        ("finished", np.uint64),  # monotonic ns at which the batch ended
        ("outcome", np.uint8),  # Outcome
        ("batch", np.uint16),  # images in the batch
    ],
    align=True,
)


class Arena(Block[Deployment]):
    """One generation's shared memory, as a process of one role sees it."""

    plan_type = Deployment
    name = "gsop-arena"

    @classmethod
    def create(cls, plan: Deployment) -> Self:
        """A new arena, all zero; the supervisor's.

        Raises:
            ConfigError: if the machine has not the memory for so many slots.
        """
        try:
            return super().create(plan)
        except OSError as error:
            raise ConfigError(
                f"no memory for {plan.settings.slots} slots of "
                f"{plan.input_bytes + 4 * plan.answer_width} bytes "
                f"({error.strerror}): lower GSOP_SLOTS"
            ) from error

    @property
    def deployment(self) -> Deployment:
        """What the generation is."""
        return self.plan

    @staticmethod
    def regions(plan: Deployment) -> Mapping[str, Region]:
        """The table above."""
        slots, engines = plan.settings.slots, plan.engines

        def slots_of(role: Role) -> slice | None:
            owned = plan.slots_of(role.number)
            return slice(owned.start, owned.stop) if role.kind == "front" else None

        return {
            "seats": Region(SEAT, (engines,), whole("supervisor")),
            "engines": Region(ENGINE, (engines,), row("engine")),
            "drift": Region(DRIFT, (engines, len(plan.manifests)), row("engine")),
            "requests": Region(REQUEST, (slots,), slots_of),
            "answers": Region(ANSWER, (engines, slots), row("engine")),
            "inputs": Region(np.uint8, (slots, plan.input_bytes), slots_of),
            "outputs": Region(np.float32, (engines, slots, plan.answer_width), row("engine")),
        }

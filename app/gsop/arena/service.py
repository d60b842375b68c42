"""The service's own shared memory: what outlives every generation.

===========  ====================================  ==============================================
region       shape                                 written by
===========  ====================================  ==============================================
service      ``()``                                the supervisor
fronts       ``(fronts,)``                         each front its own record
traffic      ``()``                                the supervisor (:mod:`~gsop.arena.bulletin`)
versions     ``()``                                the supervisor (:mod:`~gsop.arena.bulletin`)
keys         ``()``                                the supervisor (:mod:`~gsop.arena.bulletin`)
key_use      ``(fronts, numbers + 1)``             each front its own row
key_asked    ``(fronts, numbers + 1)``             each front its own row
key_parts    ``(numbers + 1,)``                    the supervisor (:mod:`gsop.serving.rates`)
counters     ``(fronts + 2 · engines, …)``         each process its own row
forgotten    ``(…)``                               the supervisor
comparisons  ``(fronts, places)``                  each front its own row
exemplars    ``(fronts, routes, buckets)``         each front its own row
===========  ====================================  ==============================================

At most two generations live at a time, and their engines take turns with two rows for each device
(:meth:`~gsop.arena.deployment.Deployment.seat`).
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from gsop.arena.block import Block, Region, Role, row, whole
from gsop.arena.bulletin import BULLETIN
from gsop.arena.families import MOST_VERSIONS, Ledger
from gsop.errors import ConfigError
from gsop.settings import Settings

SERVICE = np.dtype(
    [
        ("phase", np.uint8),  # Phase
        ("beat", np.uint64),  # monotonic ns of the supervisor's last round
        ("oldest", np.uint32),  # the oldest generation that may still be asked
    ],
    align=True,
)
FRONT = np.dtype(
    [
        ("serving", np.uint32),  # the incarnation that takes requests
        ("newest", np.uint32),  # the generation that gets its requests
        ("oldest", np.uint32),  # the oldest generation that has an image of it
    ],
    align=True,
)
COMPARISON = np.dtype(
    [
        ("run", np.uint32),  # which comparison this is: 1, 2, …
        ("samples", np.float64),  # images that both versions answered
        ("agreed", np.float64),  # with the same class
        ("moved", np.float64),  # sum of |Δp| of the first version's class
        ("moved_squared", np.float64),
        ("gates", np.float64),  # images of which the gates were compared
        ("distance", np.float64),  # sum of the gates' mean |Δ|
        ("distance_squared", np.float64),
    ],
    align=True,
)

MOST_KEY_NUMBERS = 4000
"""Keys that one service can have known since its start."""
EXEMPLAR = np.dtype(
    [
        ("trace", "S32"),  # in hexadecimal
        ("seconds", np.float64),  # that its request took
        ("time", np.float64),  # Unix seconds at which it ended; 0: there is none
    ],
    align=True,
)


class ServicePlan(BaseModel):
    """What the service is, whatever it has loaded.

    Attributes:
        settings: the service's.
        routes: the calls that are counted by name.
        control: the address at which the supervisor takes orders.
        inspector: the address of the process that takes answers apart.
    """

    model_config = ConfigDict(frozen=True)

    settings: Settings
    routes: tuple[str, ...] = ()
    control: str = ""
    inspector: str = ""


class ServiceMemory(Block[ServicePlan]):
    """The service's shared memory, as a process of one role sees it."""

    plan_type = ServicePlan
    name = "gsop-service"

    @classmethod
    def create(cls, plan: ServicePlan) -> Self:
        """A new service's memory, all zero; the supervisor's.

        Raises:
            ConfigError: if the machine has not the memory.
        """
        try:
            return super().create(plan)
        except OSError as error:
            raise ConfigError(
                f"no memory for the counters that all processes share ({error.strerror}): free "
                "some, or lift the limit"
            ) from error

    @property
    def settings(self) -> Settings:
        """The service's settings."""
        return self.plan.settings

    @staticmethod
    def regions(plan: ServicePlan) -> Mapping[str, Region]:
        """The table above."""
        fronts, engines = plan.settings.front_count, len(plan.settings.devices)
        ledger = Ledger.of(plan.routes)
        length, buckets = ledger.length, len(ledger.request_seconds.buckets) + 1

        def counters_of(role: Role) -> int | None:
            if role.kind == "supervisor":
                return None
            return role.number + (role.kind == "engine") * fronts

        return {
            "service": Region(SERVICE, (), whole("supervisor")),
            "fronts": Region(FRONT, (fronts,), row("front")),
            "traffic": Region(BULLETIN, (), whole("supervisor")),
            "versions": Region(BULLETIN, (), whole("supervisor")),
            "keys": Region(BULLETIN, (), whole("supervisor")),
            "key_use": Region(np.float64, (fronts, MOST_KEY_NUMBERS + 1), row("front")),
            "key_asked": Region(np.float64, (fronts, MOST_KEY_NUMBERS + 1), row("front")),
            "key_parts": Region(np.float64, (MOST_KEY_NUMBERS + 1,), whole("supervisor")),
            "counters": Region(np.float64, (fronts + 2 * engines, length), counters_of),
            "forgotten": Region(np.float64, (length,), whole("supervisor")),
            "comparisons": Region(COMPARISON, (fronts, MOST_VERSIONS), row("front")),
            "exemplars": Region(EXEMPLAR, (fronts, len(plan.routes) + 1, buckets), row("front")),
        }

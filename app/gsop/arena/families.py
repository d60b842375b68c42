"""What is counted for ``/metrics``, and where in a process's row of counters.

Names follow prometheus.io/docs/practices/naming: base units, ``_total`` for counters, labels from
fixed sets only. Routes come from the service's plan, codes and statuses from the tree of errors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from gsop.errors import all_errors

SPANS = ("read", "decode", "queue", "inference", "total")
"""Of the way of an image; the metric calls them stages, as the network's are called elsewhere."""

SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0, 30.0),
)
"""Bounds of times: a share of requests within a target can be told only where one is a bound. These
are those that OpenTelemetry advises, and what targets usually are."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

MOST_VERSIONS = 16
"""Versions of which anything is remembered at a time; each has a place, a number below this."""

PLACE = "place"
"""A label that stands for a version; ``/metrics`` tells its model and version instead."""

_PLACES = tuple(map(str, range(MOST_VERSIONS)))

ROLES = ("stable", "canary", "requested", "shadow")
"""Why a version was the one to answer: its model's usual one, one on trial, named in the query, or
for comparison only, where no caller waits."""

OTHER = "other"
"""Stands for each route and status that is none of those that are known."""

CLIENT_LEFT = 499
"""The status that is counted for a client that left before its answer."""

_STATUSES_OF_HTTP = (200, 304, 307, 405, CLIENT_LEFT)
"""Answers that are no error of ours."""


STATUSES = (
    *map(str, sorted({*_STATUSES_OF_HTTP, *(error.status for error in all_errors())})),
    OTHER,
)
RESULTS = ("ok", "cancelled", *dict.fromkeys(error.code for error in all_errors()))


@dataclass(frozen=True, eq=False)  # by identity: it is looked up on every request
class Family:
    """One metric and its labels.

    Attributes:
        name: with unit, without the suffix that the text format adds.
        help: what it counts.
        labels: the label's name and all the values that it can take, for each label.
        buckets: upper bounds of a histogram, without infinity; empty for a counter.
    """

    name: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Numbers for each combination of labels: a count, or a bucket each and the sum."""
        return len(self.buckets) + 2 if self.buckets else 1


IMAGES = Family("gsop_images", "Images taken in, by what became of them.", (("result", RESULTS),))
SPAN_SECONDS = Family(
    "gsop_stage_seconds",
    "Time an image spent in each stage of its way.",
    (("stage", SPANS),),
    SECONDS,
)
PREDICTIONS = Family(
    "gsop_predictions",
    "Images that a version was to answer, by why it was, and by what became of them.",
    ((PLACE, _PLACES), ("role", ROLES), ("result", RESULTS)),
)
PREDICTION_SECONDS = Family(
    "gsop_prediction_seconds",
    "Time from an image's submission to its answer, by version.",
    ((PLACE, _PLACES), ("role", ROLES)),
    SECONDS,
)
ANSWER_SECONDS = Family(
    "gsop_answer_seconds",
    "Time from a request's head to the answers of all its images, body and decoding included, by "
    "version.",
    ((PLACE, _PLACES), ("role", ROLES)),
    SECONDS,
)
INFERENCE_SECONDS = Family(
    "gsop_inference_seconds",
    "Time that an image's batch took on the device, by version.",
    ((PLACE, _PLACES), ("role", ROLES)),
    SECONDS,
)
SHADOWS_SKIPPED = Family(
    "gsop_shadows_skipped",
    "Copies of images not made for a version: too few slots were free, or pixels did not fit.",
    ((PLACE, _PLACES),),
)
FAMILIARITY = Family(
    "gsop_familiarity",
    "Familiarity of the answers of a version: the share of known images that are as unlike the "
    "others.",
    ((PLACE, _PLACES),),
    (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
)
BATCH_SIZE = Family("gsop_batch_size", "Images in a batch.", buckets=BATCHES)
SKIPPED = Family(
    "gsop_skipped",
    "Slots that never reached the device (late: their batch would have ended after the deadline).",
    (("reason", ("expired", "late", "cancelled")),),
)
RESENT = Family("gsop_resent", "Slots sent again because their engine died.")
DECODERS_LOST = Family(
    "gsop_decoders_lost",
    "Decoding helpers that an image ended, and that were replaced (forbidden: they did what no "
    "decoder does).",
    (("reason", ("hung", "crashed", "forbidden")),),
)

SPANS_LOST = Family(
    "gsop_spans_lost",
    "Spans of traces that no collector got (full: too many waited; unsent: it did not take them).",
    (("reason", ("full", "unsent")),),
)


@lru_cache
def requests_family(routes: tuple[str, ...]) -> Family:
    """The requests, by the routes that are declared."""
    return Family(
        "gsop_requests",
        "Requests answered, by route and HTTP status (499: the client left first).",
        (("route", (*routes, OTHER)), ("status", STATUSES)),
    )


@lru_cache
def request_seconds_family(routes: tuple[str, ...]) -> Family:
    """How long requests take, by the routes that are declared."""
    return Family(
        "gsop_request_seconds",
        "Time from a request's head to the end of its answer, by route; of clients that left "
        "first, none.",
        (("route", (*routes, OTHER)),),
        SECONDS,
    )


class Ledger:
    """Which families there are, and where each combination of labels begins in a row.

    Attributes:
        requests: the family of the requests.
        request_seconds: that of the time that they take.
        families: all of them.
        length: numbers in a row.
    """

    def __init__(self, routes: tuple[str, ...]) -> None:
        self.requests = requests_family(routes)
        self.request_seconds = request_seconds_family(routes)
        self.families = (
            *(IMAGES, SPAN_SECONDS, PREDICTIONS, PREDICTION_SECONDS, ANSWER_SECONDS),
            *(INFERENCE_SECONDS, SHADOWS_SKIPPED, FAMILIARITY, BATCH_SIZE, SKIPPED, RESENT),
            *(DECODERS_LOST, SPANS_LOST, self.requests, self.request_seconds),
        )
        self.places: Mapping[tuple[Family, tuple[str, ...]], int]
        self.places, self.length = self._lay_out()

    @staticmethod
    @lru_cache
    def of(routes: tuple[str, ...]) -> "Ledger":
        """That of these routes: to lay it out costs more than to read all of it."""
        return Ledger(routes)

    def rows(self, family: Family) -> Iterator[tuple[tuple[str, ...], int]]:
        """Each combination of a family's labels, and where it begins."""
        return ((labels, at) for (owner, labels), at in self.places.items() if owner is family)

    def _lay_out(self) -> tuple[dict[tuple[Family, tuple[str, ...]], int], int]:
        places, end = {}, 0
        for family in self.families:
            for values in product(*(values for _, values in family.labels)):
                places[family, values] = end
                end += family.width
        return places, end

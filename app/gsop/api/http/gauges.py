"""What is told of the present state: slots, engines, versions, how far the service has come."""

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import gsop
from gsop.arena.board import EngineStatus
from gsop.arena.states import EngineState, Phase
from gsop.serving.callers import last_used
from gsop.serving.generation import Generations
from gsop.serving.judge import Reason


def gauge(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """A metric of the present state."""
    metric = GaugeMetricFamily(name, text, labels=labels)
    for values, number in rows:
        metric.add_metric(values, number)
    return metric


def counter(
    name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """A metric that never goes back; ``_total`` is added to its name."""
    metric = CounterMetricFamily(name, text, labels=labels)
    for values, number in rows:
        metric.add_metric(values, number)
    return metric


def gauges(generations: Generations, certificate_expires: float | None) -> Iterator[Metric]:
    """All of them.

    Args:
        generations: the service's.
        certificate_expires: Unix seconds; ``None`` if it speaks no TLS.
    """
    yield gauge(
        "gsop_build_info", "1 for the release that serves.", ["version"], [([gsop.__version__], 1)]
    )
    yield from _of_service(generations)
    yield gauge(
        "gsop_key_last_used_timestamp_seconds",
        "When a request came with the API key last; absent if none did since the start.",
        ["key"],
        [([name], seconds) for name, seconds in last_used(generations.memory)],
    )
    yield gauge(
        "gsop_certificate_expiry_timestamp_seconds",
        "When the first of the certificates in GSOP_TLS_CERTFILE expires, as it was read at start; "
        "absent without TLS.",
        [],
        [([], certificate_expires)] if certificate_expires is not None else [],
    )
    yield from _of_engines(
        [(str(i), engine) for i, engine in enumerate(generations.present.engines.board.engines())]
    )
    yield from _of_versions(generations)
    yield from _of_comparisons(generations)
    yield from _of_drift(generations)


def _of_service(generations: Generations) -> Iterator[Metric]:
    board = generations.present.engines.board
    total, used = generations.memory.settings.slots, board.slots_used
    phase = generations.board.phase
    is_ready = any(engine.state == EngineState.READY for engine in board.engines())
    yield gauge(
        "gsop_slots",
        "Slots, by whether an image is in them.",
        ["state"],
        [(["used"], used), (["free"], total - used)],
    )
    yield gauge(
        "gsop_ready",
        "1 if /readyz says that requests may come.",
        [],
        [([], float(phase == Phase.SERVING and is_ready))],
    )
    yield gauge(
        "gsop_phase",
        "1 for how far the service has come towards its end.",
        ["phase"],
        [([each.name.lower()], float(phase == each)) for each in Phase],
    )
    yield counter(
        "gsop_front_restarts",
        "How often the front's process was replaced.",
        ["front"],
        [
            ([str(front)], max(0, generations.board.serving_incarnation(front) - 1))
            for front in range(generations.memory.settings.front_count)
        ],
    )


def _of_versions(generations: Generations) -> Iterator[Metric]:
    status, models = generations.status, generations.routing.models
    yield gauge(
        "gsop_model_info",
        "The models that are loaded.",
        ["name", "version"],
        [([m.manifest.name, m.manifest.version], 1.0) for m in generations.present.engines.models],
    )
    yield gauge(
        "gsop_model_state",
        "1 for where each version is on its way.",
        ["model", "version", "state"],
        [([v.name, v.version, v.state], 1.0) for v in status.versions],
    )
    yield gauge(
        "gsop_model_load_seconds",
        "How long a version took to load beside others.",
        ["model", "version"],
        [([v.name, v.version], v.seconds) for v in status.versions if v.seconds is not None],
    )
    yield gauge(
        "gsop_traffic_percent",
        "The share of requests that a version is to get.",
        ["model", "version", "role"],
        [
            ([name, version, role], percent)
            for name, (_, _, traffic) in models.items()
            for version, role, percent in (
                (traffic.stable, "stable", 100 - traffic.percent),
                (traffic.canary, "canary", traffic.percent),
            )
            if version is not None
        ],
    )
    yield gauge(
        "gsop_generation", "The present set of loaded versions.", [], [([], status.generation)]
    )
    yield gauge(
        "gsop_engines_memory_bytes",
        "What the engines of all generations took when they had become ready.",
        [],
        [([], status.memory_bytes)],
    )
    yield counter(
        "gsop_rollbacks",
        "Canaries whose share the service took back by itself.",
        ["model", "reason"],
        # Also those that have not happened: what begins with 1 has, to Prometheus, not risen.
        [
            ([name, reason], status.rollbacks.get(name, {}).get(reason, 0))
            for name in models
            for reason in get_args(Reason)
        ],
    )


def _of_comparisons(generations: Generations) -> Iterator[Metric]:
    """A canary or a shadow beside its stable version."""
    found = [
        ([name, report.other.version, report.role], report)
        for name, reports in generations.status.comparisons.items()
        for report in reports
    ]
    labels = ["model", "version", "role"]
    yield gauge(
        "gsop_comparison_pairs",
        "Images that the version and the stable one have both answered.",
        labels,
        [(names, float(report.pairs)) for names, report in found],
    )
    for metric, text, member in (
        (
            "gsop_comparison_agreement_ratio",
            "Share of those pairs with the same class.",
            "agreement",
        ),
        (
            "gsop_comparison_probability_change",
            "Mean change of the stable class in them.",
            "probability_change",
        ),
        ("gsop_comparison_gate_distance", "Mean distance of the gates in them.", "gate_distance"),
    ):
        rows = [(names, getattr(report, member)) for names, report in found]
        yield gauge(metric, text, labels, [(names, e.value) for names, e in rows if e is not None])


def _of_drift(generations: Generations) -> Iterator[Metric]:
    """How far versions are from their references."""
    engines = generations.present.engines
    labels = ["model", "version", "reference"]
    found = [
        (
            [m.manifest.name, m.manifest.version, "learned" if drift.is_learned else "published"],
            drift,
        )
        for m in engines.models
        if (drift := engines.drift.status(m.index)).images
    ]
    yield gauge(
        "gsop_drift_score",
        "Evidence that the gates are not those of the reference, over its limit: above 1 it is "
        "drift. Absent until there are two windows.",
        labels,
        [(names, drift.score) for names, drift in found if drift.score is not None],
    )
    yield gauge(
        "gsop_drift_gates",
        "Numbers in the gates that are over the limit in the newest window.",
        labels,
        [(names, float(drift.gates)) for names, drift in found],
    )
    yield gauge(
        "gsop_drift_images",
        "Different images that were compared with the reference, since it is compared with.",
        labels,
        [(names, float(drift.images)) for names, drift in found],
    )


def _of_engines(engines: Sequence[tuple[str, EngineStatus]]) -> Iterator[Metric]:
    yield gauge(
        "gsop_engine_state",
        "1 for the state that the engine is in.",
        ["engine", "state"],
        [
            ([i, state.name.lower()], float(engine.state == state))
            for i, engine in engines
            for state in EngineState
        ],
    )
    yield gauge(
        "gsop_engine_epoch",
        "How often the engine has become ready.",
        ["engine"],
        [([i], float(engine.epoch)) for i, engine in engines],
    )
    yield gauge(
        "gsop_engine_batch_limit",
        "Most images that the engine puts into a batch.",
        ["engine"],
        [([i], float(engine.batch_limit)) for i, engine in engines],
    )
    yield gauge(
        "gsop_engine_predicted_seconds",
        "Time that a batch is expected to take: fixed, and for each image in it.",
        ["engine", "part"],
        [
            ([i, part], seconds)
            for i, engine in engines
            for part, seconds in (("fixed", engine.fixed_seconds), ("image", engine.image_seconds))
        ],
    )
    yield counter(
        "gsop_engine_restarts",
        "How often the engine's process was replaced.",
        ["engine"],
        [([i], float(engine.restarts)) for i, engine in engines],
    )
    yield gauge(
        "gsop_engine_info",
        "What each engine runs on.",
        ["engine", "device", "precision"],
        [([i, engine.device, engine.precision], 1.0) for i, engine in engines],
    )

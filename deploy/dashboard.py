"""Makes the dashboard, ``deploy/grafana/gsop.json``.

    python -m deploy.dashboard

A test compares the file with what is made here, and its queries with the metrics of a running
service.
"""

import json
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders.common import VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    GridPos,
    VariableRefresh,
    VariableSort,
)

FILE = Path(__file__).parent / "grafana/gsop.json"

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

COLUMNS, WIDTH, HEIGHT = 3, 8, 8
"""Panels beside each other, and a panel's size in Grafana's grid of 24 columns."""

OF = 'job="$job",instance=~"$instance"'
RATE = "[$__rate_interval]"


class Graph(NamedTuple):
    """A panel: queries with what their lines are called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def rate(counter: str, by: str, more: str = "") -> str:
    """A counter's rate, by labels."""
    return f"sum by ({by}) (rate({counter}{{{OF}{more}}}{RATE}))"


def quantile(share: float, histogram: str, by: str = "", more: str = "") -> str:
    """A quantile of a histogram, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', labels, more)})"


def mean(histogram: str) -> str:
    """A histogram's mean."""
    return f"{rate(f'{histogram}_sum', 'instance')} / {rate(f'{histogram}_count', 'instance')}"


PREDICTS = ',route=~"/predict|.*[Ii]nfer"'
REQUESTS = rate("gsop_requests_total", "job", PREDICTS)
FAULTS = rate("gsop_requests_total", "job", PREDICTS + ',status=~"5.."')

ROWS: tuple[tuple[str, tuple[Graph, ...]], ...] = (
    (
        "Traffic and errors",
        (
            Graph(
                "Requests by status",
                "reqps",
                ((rate("gsop_requests_total", "status", PREDICTS), "{{status}}"),),
            ),
            Graph(
                "Share of requests that fail (5xx)",
                "percentunit",
                (
                    (
                        f"({FAULTS} or 0 * {REQUESTS}) / {REQUESTS}",
                        "5xx",
                    ),
                ),
            ),
            Graph(
                "Images by what became of them",
                "ops",
                ((rate("gsop_images_total", "result") + " > 0", "{{result}}"),),
            ),
        ),
    ),
    (
        "Latency by part",
        (
            Graph(
                "Requests to predict",
                "s",
                tuple(
                    (quantile(share, "gsop_request_seconds", more=PREDICTS), name)
                    for share, name in ((0.5, "median"), (0.95, "p95"), (0.99, "p99"))
                ),
            ),
            Graph(
                "Parts, p95",
                "s",
                ((quantile(0.95, "gsop_stage_seconds", "stage"), "{{stage}}"),),
            ),
            Graph(
                "Other calls, p95",
                "s",
                ((quantile(0.95, "gsop_request_seconds", "route"), "{{route}}"),),
            ),
        ),
    ),
    (
        "Saturation",
        (
            Graph(
                "Slots taken",
                "percentunit",
                (
                    (
                        f'sum by (instance) (gsop_slots{{{OF},state="used"}}) / '
                        f"sum by (instance) (gsop_slots{{{OF}}})",
                        "{{instance}}",
                    ),
                ),
            ),
            Graph(
                "Images in a batch",
                "none",
                (
                    (mean("gsop_batch_size"), "mean, {{instance}}"),
                    (
                        f"min by (instance) (gsop_engine_batch_limit{{{OF}}})",
                        "limit, {{instance}}",
                    ),
                ),
            ),
            Graph(
                "Share of time that the device computes",
                "percentunit",
                (
                    (
                        f"{rate('gsop_batch_size_count', 'instance')} * "
                        f"sum by (instance) (gsop_engine_predicted_seconds{{{OF},"
                        'part="fixed"}) + '
                        f"{rate('gsop_batch_size_sum', 'instance')} * "
                        f"sum by (instance) (gsop_engine_predicted_seconds{{{OF},"
                        'part="image"})',
                        "expected, {{instance}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Models and shares",
        (
            Graph(
                "Images by version and role",
                "ops",
                (
                    (
                        rate("gsop_predictions_total", "model, version, role"),
                        "{{model}}/{{version}} {{role}}",
                    ),
                ),
            ),
            Graph(
                "Share that each version is to have",
                "percent",
                (
                    (
                        f"max by (model, version, role) (gsop_traffic_percent{{{OF}}})",
                        "{{model}}/{{version}} {{role}}",
                    ),
                ),
            ),
            Graph(
                "Answers by version, p95",
                "s",
                (
                    (
                        quantile(0.95, "gsop_answer_seconds", "model, version, role"),
                        "{{model}}/{{version}} {{role}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Gates and drift",
        (
            Graph(
                "Drift, over its limit (above 1: it is drift)",
                "none",
                (
                    (
                        f"max by (model, version) (gsop_drift_score{{{OF}}})",
                        "{{model}}/{{version}}",
                    ),
                ),
            ),
            Graph(
                "Different images that were compared",
                "none",
                (
                    (
                        f"sum by (model, version) (gsop_drift_images{{{OF}}})",
                        "{{model}}/{{version}}",
                    ),
                ),
            ),
            Graph(
                "Familiarity, median",
                "percentunit",
                (
                    (
                        quantile(0.5, "gsop_familiarity", "model, version"),
                        "{{model}}/{{version}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Processes",
        (
            Graph(
                "Engines, fronts and decoders that were replaced",
                "none",
                (
                    (
                        f"sum by (instance) (increase(gsop_engine_restarts_total{{{OF}}}{RATE}))",
                        "engines, {{instance}}",
                    ),
                    (
                        f"sum by (instance) (increase(gsop_front_restarts_total{{{OF}}}{RATE}))",
                        "fronts, {{instance}}",
                    ),
                    (
                        "sum by (instance, reason) "
                        f"(increase(gsop_decoders_lost_total{{{OF}}}{RATE}))",
                        "decoders ({{reason}}), {{instance}}",
                    ),
                ),
            ),
            Graph(
                "Ready",
                "bool_yes_no",
                ((f"gsop_ready{{{OF}}}", "{{instance}}"),),
            ),
            Graph(
                "Memory of the engines when they had become ready",
                "bytes",
                ((f"gsop_engines_memory_bytes{{{OF}}}", "{{instance}}"),),
            ),
        ),
    ),
)


def panel(graph: Graph, number: int, x: int, y: int) -> Panel:
    """A panel at a place of the grid."""
    made = (
        Panel()
        .id(number)
        .title(graph.title)
        .unit(graph.unit)
        .datasource(SOURCE)
        .grid_pos(GridPos(h=HEIGHT, w=WIDTH, x=x, y=y))
        .fill_opacity(10)
        .legend(
            VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for letter, (expression, name) in zip("ABC", graph.queries, strict=False):
        query = Dataquery().expr(expression).legend_format(name).range().ref_id(letter)
        made.with_target(query.datasource(SOURCE))
    return made


def dashboard() -> Dashboard:
    """All of it."""
    made = (
        Dashboard("GSoP service")
        .uid("gsop")
        .tags(["gsop"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, query, several in (
        ("job", "label_values(gsop_ready, job)", False),
        ("instance", 'label_values(gsop_ready{job="$job"}, instance)', True),
    ):
        made.with_variable(
            QueryVariable(name)
            .label(name)
            .query(query)
            .datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(several)
            .include_all(several)
        )
    number, y = 1, 0
    for title, graphs in ROWS:
        made.with_row(Row(title).id(number).grid_pos(GridPos(h=1, w=24, x=0, y=y)))
        number, y = number + 1, y + 1
        for place, graph in enumerate(graphs):
            made.with_panel(panel(graph, number, WIDTH * (place % COLUMNS), y))
            number += 1
        y += HEIGHT
    return made


def text() -> str:
    """The file's content."""
    # As a new one where it is imported, whatever number another Grafana gave it.
    content = json.loads(json.dumps(dashboard().build(), cls=JSONEncoder)) | {"id": None}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

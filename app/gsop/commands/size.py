"""``gsop size``: how many instances, cores and slots a rate and a latency need."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gsop.commands.sizing import Figures, Need, Sizing
from gsop.errors import ConfigError
from gsop.paths import check_file
from gsop.settings import Settings

MOST_SHARE = 0.8
"""Above it they are no bound any more (docs/scaling.md)."""


def size(
    settings: Settings,
    model: str | None,
    rates: Sequence[float],
    p99: float,
    share: float,
    image: Path | None,
    figures: Path | None,
    output: Path | None,
    prices: dict[str, float],
    as_json: bool,
) -> int:
    """Print what each rate needs.

    Args:
        settings: of the machine that is measured.
        model: which; the first of the settings if ``None``.
        rates: requests a second.
        p99: milliseconds that 99 of 100 requests may take.
        share: of a device's and a core's capacity that is to be used at most.
        image: a file to measure with.
        figures: file of what was measured before.
        output: file to keep in what was measured.
        prices: of an hour of a ``core`` and of a ``device``.
        as_json: whether to print JSON in place of a table.

    Raises:
        ConfigError: if a number makes no sense, or nothing is measured.
        SetupError: if it cannot be measured.
    """
    if (image is None) == (figures is None):
        raise ConfigError(
            "sizes are of what was measured: name an image as your clients send them (--measure "
            "IMAGE), or what was measured before (--figures FILE)"
        )
    if not 0 < share <= MOST_SHARE:
        raise ConfigError(
            f"--share {share:g}: name what may be used of a machine, as 0.7; above {MOST_SHARE:g} "
            "it takes longer than the formulas say"
        )
    if p99 <= 0 or min(rates) <= 0 or min(prices.values(), default=0) < 0:
        raise ConfigError("--rate and --p99 are above 0, and prices are not below it")
    if figures is not None:
        found = Figures.read(figures)
        if output is not None:
            raise ConfigError("--output keeps what --measure finds; --figures measures nothing")
    else:
        if output is not None:
            check_file(output)
        from gsop.commands.measuring import measure  # it needs torch, or what else computes

        assert image is not None  # noqa: S101  # as one of the two is there
        found = measure(settings, model or settings.models[0], image)
    if output is not None:
        _keep(found, output)
    sizing = Sizing(found, p99=p99 / 1000, share=share)
    needs = [sizing.need(rate) for rate in rates]
    if as_json:
        print(json.dumps([asdict(need) | _costs(need, found, prices) for need in needs], indent=1))
    else:
        _show(found, sizing.most(), needs, prices)
    return 0


def _keep(figures: Figures, file: Path) -> None:
    try:
        file.write_text(figures.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


def _costs(need: Need, figures: Figures, prices: dict[str, float]) -> dict[str, float]:
    """Of an hour, and of a million requests at that rate; nothing without prices."""
    if not prices:
        return {}
    devices = 0 if figures.computes_on_cores else need.instances
    hour = need.cores * prices.get("core", 0.0) + devices * prices.get("device", 0.0)
    return {"hour": hour, "million": hour / (need.rate * 3600) * 1e6}


def _show(figures: Figures, most: Need, needs: Sequence[Need], prices: dict[str, float]) -> None:
    print(
        f"{figures.model} on {figures.device}: {figures.image_seconds * 1000:.2f} ms of a core for "
        f"an image of {figures.image_bytes / 1000:.0f} kB; a batch of "
        + ", of ".join(
            f"{size} {figures.times.expect(size) * 1000:.1f} ms"
            for size in sorted({1, max(figures.batches)})
        )
        + f" ({figures.machine})\n"
        f"an instance does {most.rate:.3g} requests a second with {most.in_use:.1f} slots in use, "
        "the threshold for an autoscaler; one more is always there, so that one may be away"
    )
    header = (
        *("requests/s", "instances", "cores of each", "for images", "cores", "batch", "device"),
        *("p99 ms", "slots in use", "GSOP_SLOTS", *(("an hour", "a million") if prices else ())),
    )
    rows = [
        (
            f"{need.rate:g}",
            str(need.instances),
            str(need.image_cores + need.engine_cores),
            str(need.image_cores),
            str(need.cores),
            f"{need.batch:.1f}",
            f"{need.device_share:.0%}",
            f"{need.p99 * 1000:.0f}",
            f"{need.in_use:.1f}",
            str(need.slots),
            *(f"{cost:.2f}" for cost in _costs(need, figures, prices).values()),
        )
        for need in needs
    ]
    for row in (header, *rows):
        print("  ".join(text.rjust(len(title)) for title, text in zip(header, row, strict=True)))

"""Empty figures to draw on. matplotlib comes with the extra ``train``, and is imported late."""

from typing import TYPE_CHECKING

from gsop.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(what: str, width: float, height: float) -> "Figure":
    """An empty figure, saved at 120 dots an inch.

    Args:
        what: is going to be drawn, with its verb: "the curves are".
        width: in inches.
        height: in inches.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"{what} drawn with matplotlib, which is not installed: pip install '.[train]'"
        ) from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")

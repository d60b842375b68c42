"""Reports, filled from top to bottom: tables with bars, and small pictures, on one page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gsop import html


@dataclass(frozen=True)
class Picture:
    """A picture for a report, its pixels seen as squares.

    Attributes:
        data: a PNG file.
        caption: stands below it, and says what is to be seen to who cannot see it.
    """

    data: bytes
    caption: str


@dataclass(frozen=True)
class Share:
    """A number from 0 to 1 in a table, with a bar beside it."""

    value: float

    @property
    def piece(self) -> html.Html:
        """The bar and the number."""
        text = f"{self.value:.4f}"
        bar = html.element("meter", value=f"{self.value:.6f}", aria_label=text)
        return html.joined((bar, f" {text}"))


Cell = str | int | Share
"""What a table holds."""


class Page:
    """One page. All text is escaped.

    Args:
        title: of the page; its first heading too.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[html.Html] = []

    def heading(self, text: str, level: int = 2) -> None:
        """A heading, 2 or 3."""
        self._parts.append(html.element(f"h{level}", text))

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(html.element("p", text, class_="note"))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], name: str) -> None:
        """A table.

        Args:
            columns: their heads.
            rows: a cell for each column.
            name: what it lists, for those who cannot see it.
        """
        cells = [[c.piece if isinstance(c, Share) else str(c) for c in row] for row in rows]
        self._parts.append(html.table(columns, cells, name=name))

    def pictures(self, *pictures: Picture) -> None:
        """Pictures side by side, as far as there is room."""
        figures = (
            html.picture(p.data, p.caption, caption=p.caption, pixels=True) for p in pictures
        )
        self._parts.append(html.side_by_side(*figures))

    def render(self) -> str:
        """The whole file."""
        return html.page(self._title, *self._parts)

"""Reports as one HTML file that opens anywhere: its pictures inside, and no script."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b24; --faint: #5c5c68; --paper: #fff; --line: #d5d5de;
  --bar: #a61366 }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf2; --faint: #a9a9b6; --paper: #16161d;
  --line: #3a3a46; --bar: #e96930 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 2rem auto; padding: 0 1.25rem }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem }
p, figcaption, caption { color: var(--faint); max-width: 46rem; text-align: left }
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start }
figure { margin: .75rem 0; max-width: 100% }
figure img { image-rendering: pixelated; max-width: 100%; border: 1px solid var(--line) }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line) }
meter { width: 10rem; height: .9rem }
"""


@dataclass(frozen=True)
class Picture:
    """A picture for a page.

    Attributes:
        data: a PNG file.
        caption: stands below it.
        text: says what is to be seen, to who cannot see it; the caption if empty.
        width: in the page's pixels; the picture's own if 0.
    """

    data: bytes
    caption: str
    text: str = ""
    width: int = 0

    def markup(self) -> str:
        """The figure, its picture inside."""
        source = base64.b64encode(self.data).decode()
        width = f' width="{self.width}"' if self.width else ""
        return (
            f'<figure><img src="data:image/png;base64,{source}"{width} '
            f'alt="{escape(self.text or self.caption)}">'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Share:
    """A number from 0 to 1 in a table, with a bar beside it."""

    value: float

    def markup(self) -> str:
        """The bar and the number."""
        text = f"{self.value:.4f}"
        return f'<meter value="{self.value:.6f}" aria-label="{text}"></meter> {text}'


Cell = str | int | Share
"""What a table holds."""


class Page:
    """One page, filled from top to bottom. All text is escaped.

    Args:
        title: of the page; its first heading too.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str, level: int = 2) -> None:
        """A heading, 2 or 3."""
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = ""
    ) -> None:
        """A table.

        Args:
            columns: their heads.
            rows: a cell for each column.
            caption: stands above it.
        """
        heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
        lines = ("".join(f"<td>{_cell(cell)}</td>" for cell in row) for row in rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        above = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._parts.append(
            f'<div class="wide" tabindex="0"><table>{above}<thead><tr>{heads}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def pictures(self, *pictures: Picture) -> None:
        """Pictures side by side, as far as there is room."""
        figures = "".join(picture.markup() for picture in pictures)
        self._parts.append(f'<div class="row">{figures}</div>')

    def render(self) -> str:
        """The whole file."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "img-src data:; style-src 'unsafe-inline'\">"
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
            + "\n".join(self._parts)
            + "\n</main></body></html>\n"
        )


def _cell(cell: Cell) -> str:
    return cell.markup() if isinstance(cell, Share) else escape(str(cell))

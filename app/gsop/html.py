"""Pages in one file: text, tables and pictures, with nothing from elsewhere, that open anywhere.

Every text is escaped unless it is :class:`Html`, which only this module makes::

    page("Report", section("Figures", table(("class", "right"), rows), picture(png, "a curve")))
"""

import base64
import html
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #d4d3de; --faint: #5c5c6b; --mark: #a61366; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a3848; --faint: #a9a7b8; --mark: #f39a6b; }
}
body { font: 16px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; }
p.note, figcaption { color: var(--faint); font-size: .85rem; } nav a { margin-right: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0; } figure img { max-width: 100%; background: #fff; }
.side { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; max-width: 100%; }
img.pixels { image-rendering: pixelated; } strong.mark { color: var(--mark); }
"""


class Html(str):
    """A piece of a page, whose texts are escaped already."""

    __slots__ = ()


Piece = str | Html


def page(title: str, *parts: Piece) -> str:
    """A whole page; a browser that opens it asks nobody for anything."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    body = element("main", element("h1", title), *parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def element(name: str, *children: Piece, **attributes: str | int | None) -> Html:
    """One element; an attribute's ``_`` stands for ``-``, and ends what Python keeps for itself.

    Args:
        name: of the element.
        children: texts, which are escaped, and pieces.
        attributes: by name; ``None`` is left out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = joined(children)
    return Html(f"<{name}{told}>{inner}</{name}>" if name != "img" else f"<img{told}>")


def joined(pieces: Iterable[Piece]) -> Html:
    """Several pieces as one."""
    return Html("".join(p if isinstance(p, Html) else html.escape(p) for p in pieces))


def section(title: str, *parts: Piece, note: str = "") -> Html:
    """A part of a page under a heading, with what there is to know of it."""
    about = [element("p", note, class_="note")] if note else []
    return element("section", element("h2", title), *about, *parts)


def table(
    head: Sequence[str], rows: Iterable[Sequence[Piece | float]], *, name: str, numbers: int = 0
) -> Html:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        head: of the columns.
        rows: their cells.
        name: what it lists, for those who cannot see it.
        numbers: the first column of numbers, which stand to the right; 0 if there is none.
    """

    def kind(column: int) -> str | None:
        return "number" if numbers and column >= numbers else None

    titles = [element("th", t, scope="col", class_=kind(n)) for n, t in enumerate(head)]
    lines = [
        element(
            "tr",
            *(
                element("td", c if isinstance(c, str) else f"{c:g}", class_=kind(n))
                for n, c in enumerate(row)
            ),
        )
        for row in rows
    ]
    whole = element("table", element("thead", element("tr", *titles)), element("tbody", *lines))
    return element("div", whole, class_="wide", role="region", aria_label=name, tabindex=0)


def picture(
    data: bytes, text: str, *, caption: str = "", width: int | None = None, pixels: bool = False
) -> Html:
    """A PNG or JPEG inside of the page.

    Args:
        data: the file.
        text: what it shows, for those who cannot see it.
        caption: below it.
        width: in pixels of the page; its own if absent.
        pixels: whether its pixels are to be seen as squares, where it is drawn larger.
    """
    kind = "jpeg" if data.startswith(b"\xff\xd8") else "png"
    image = element(
        "img",
        src=f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        alt=text,
        width=width,
        class_="pixels" if pixels else None,
    )
    told = [element("figcaption", caption)] if caption else []
    return element("figure", image, *told)


def side_by_side(*parts: Piece) -> Html:
    """Pieces beside each other, as many as there is room for."""
    return element("div", *parts, class_="side")

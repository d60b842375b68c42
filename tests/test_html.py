from gsop.html import Html, element, joined, page, picture, section, table


def test_texts_are_escaped_and_pieces_are_not() -> None:
    cell = element("b", "<script>")
    assert cell == "<b>&lt;script&gt;</b>"
    assert joined(["a & b", cell]) == "a &amp; b<b>&lt;script&gt;</b>"
    assert element("p", title='"', class_="x", data_n=3, id=None) == (
        '<p title="&quot;" class="x" data-n="3"></p>'
    )


def test_a_page_asks_nobody_for_anything() -> None:
    shown = picture(b"\x89PNG", "a curve", caption="falls")
    whole = page("<Report>", section("Figures", shown, note="of today"))
    assert whole.startswith("<!doctype html>")
    assert "<title>&lt;Report&gt;</title>" in whole
    assert "default-src 'none'" in whole
    assert "http" not in whole.replace('http-equiv="Content-Security-Policy"', "")
    assert 'src="data:image/png;base64,iVBORw=="' in whole
    assert 'alt="a curve"' in whole


def test_a_table_tells_its_columns_and_its_name() -> None:
    made = table(("class", "right"), [("<a>", 0.25), (Html("<i>b</i>"), 1)], name="x", numbers=1)
    assert '<th scope="col">class</th><th scope="col" class="number">right</th>' in made
    assert '<td>&lt;a&gt;</td><td class="number">0.25</td>' in made
    assert "<td><i>b</i></td>" in made
    assert 'role="region" aria-label="x" tabindex="0"' in made

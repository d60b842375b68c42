import pytest

from gsop.api.http.negotiation import choose
from gsop.errors import NotAcceptable

OFFERS = ("application/json", "image/png", "application/x-npz")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("application/*", "application/json"),
        ("application/x-npz, */*;q=0.1", "application/x-npz"),
        ("image/png;q=0.2, application/json;q=0.9", "application/json"),
        ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", "application/json"),
        ("application/json;q=0, */*", "image/png"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_the_best_liked_form_is_chosen(accept: str, chosen: str) -> None:
    assert choose(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "", "image/png;q=many"])
def test_no_admitted_form_is_an_error(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json"):
        choose(accept, OFFERS)

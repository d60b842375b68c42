import sys

import pytest

from gsop.errors import ConfigError
from gsop.train.figure import new_figure


def test_a_figure_has_its_size_in_inches() -> None:
    figure = new_figure("the curves are", 8, 3.5)
    assert tuple(figure.get_size_inches()) == (8, 3.5)
    assert figure.dpi == 120


def test_without_matplotlib_it_is_said_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ConfigError,
        match=r"the curves are drawn with matplotlib, which is not installed: pip install '\.\[",
    ):
        new_figure("the curves are", 8, 3.5)

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from gsop.commands.compare import as_csv, as_markdown, compare
from gsop.errors import ConfigError
from gsop.model.config import gate_layout
from gsop.train.compare import USUAL, VARIANTS, Row, cells, mean_and_deviation
from gsop.train.recipe import Recipe

ROWS = [
    Row("plain", (0.5, 0.75), 1200, 3_400_000, (10.04, 12.0)),
    Row("Net2", (1.0, 1.0), 99_999, 5_000_000, (20.0, 20.0)),
]


def test_cells_differ_in_network_and_seed_alone(recipe: Recipe, tmp_path: Path) -> None:
    made = cells(recipe, tmp_path, variants=USUAL, seeds=range(2))
    assert [(cell.variant, cell.recipe.seed) for cell in made] == [
        (name, seed) for seed in (0, 1) for name in USUAL
    ]
    assert len({cell.folder for cell in made}) == len(made)
    assert len({cell.recipe.config for cell in made}) == len(USUAL)
    common = {"name", "config", "seed", "workers"}
    for cell in made:
        assert cell.recipe.model_dump(exclude=common) == recipe.model_dump(exclude=common)
        config = replace(cell.recipe.config, attention="channel", head="gap", gated_blocks="last")
        assert config == recipe.config


def test_every_variant_is_what_it_is_called(recipe: Recipe, tmp_path: Path) -> None:
    kinds = {
        cell.variant: {gate.kind for gate in gate_layout(cell.recipe.config, 16, 16)}
        for cell in cells(recipe, tmp_path, variants=VARIANTS, seeds=(0,))
    }
    assert kinds == {
        "plain": set(),
        "SE": {"channel"},
        "GSoP-channel": {"channel"},
        "GSoP-position": {"position"},
        "GSoP-fusion": {"channel", "position"},
        "Net2": {"channel"},
        "Net2-plain": set(),
    }


def test_a_variant_that_is_none_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no variant GSoP to compare: there are plain, SE"):
        cells(recipe, tmp_path, variants=["plain", "GSoP"], seeds=(0,))


def test_no_seeds_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set --seeds to 1 or more"):
        cells(recipe, tmp_path, variants=["plain"], seeds=range(0))


def test_the_tables() -> None:
    assert as_csv(ROWS).splitlines() == [
        "variant,seed,top1,parameters,multiply_adds,seconds",
        "plain,0,0.5000,1200,3400000,10.0",
        "plain,1,0.7500,1200,3400000,12.0",
        "Net2,0,1.0000,99999,5000000,20.0",
        "Net2,1,1.0000,99999,5000000,20.0",
    ]
    assert as_markdown(ROWS).splitlines()[2:] == [
        "| plain | 62.5% ± 17.7% | 1 k | 3.4 M | 11 |",
        "| Net2 | 100.0% ± 0.0% | 100 k | 5.0 M | 20 |",
    ]
    assert mean_and_deviation([0.25]) == (0.25, 0.0)


def test_one_seed_deviates_from_nothing() -> None:
    table = as_markdown([Row("plain", (0.625,), 1000, 3_400_000, (11.0,))])
    assert table.splitlines()[-1] == "| plain | 62.5% | 1 k | 3.4 M | 11 |"


@pytest.mark.slow
def test_a_comparison_is_taken_up_where_it_was(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe.model_copy(
        update={"schedule": recipe.schedule.model_copy(update={"steps": 4, "warmup": 1})}
    )
    # What a killed training leaves: a run without its end.
    begun = tmp_path / "SE-0"
    begun.mkdir()
    (begun / "recipe.json").write_text("{}")

    def run(variants: str) -> list[str]:
        status = compare(
            recipe,
            tmp_path,
            variants=variants.split(","),
            seeds=1,
            jobs=1,
            device="cpu",
            progress=True,
        )
        assert status == 0
        return capsys.readouterr().err.split("\n")[:-1]

    assert run("plain") == ["1/1 plain-0"]
    weights = (tmp_path / "plain-0" / "model.safetensors").stat()
    assert run("plain,SE") == ["2/2 SE-0"]
    assert (tmp_path / "plain-0" / "model.safetensors").stat() == weights

    with (tmp_path / "table.csv").open(newline="") as file:
        table = {row["variant"]: row for row in csv.DictReader(file)}
    assert set(table) == {"plain", "SE"}
    for name, row in table.items():
        folder = tmp_path / f"{name}-0"
        weights_file = load_file(folder / "model.safetensors")
        learnt = [t for key, t in weights_file.items() if key.endswith(("weight", "bias"))]
        assert int(row["parameters"]) == sum(tensor.numel() for tensor in learnt)
        result = json.loads((folder / "result.json").read_text())
        assert float(row["top1"]) == pytest.approx(result["top1"], abs=1e-4)
        assert float(row["seconds"]) > 0
    assert "| plain |" in (tmp_path / "table.md").read_text()
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > 500

    longer = recipe.model_copy(update={"batch_size": 8})
    with pytest.raises(ConfigError, match="plain-0 holds the run of another recipe"):
        compare(longer, tmp_path, variants=["plain"], seeds=1, jobs=1, device="cpu", progress=False)

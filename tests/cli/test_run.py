"""``reidpipe run``: all combinations in one graph, what they share, and the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import requests
from pipeline.artifacts.epochs import step_of
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.spread import spread
from reid_train.figures.commands import shared_maps
from reid_train.recipe.combinations import (
    Cell,
    Row,
    combinations,
    named,
    pairs_with,
    read_names,
    read_seeds,
    table,
)
from reid_train.recipe.variation import read_variations
from tests.cli.conftest import TRAIN, Console

RUN = ("run", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(Workspace(tmp_path / "workspace"), as_json=False)


def planned(
    terminal: Terminal,
    tmp_path: Path,
    recipes: list[str],
    parsers: list[str],
    seeds: str = "0",
    varied: Sequence[str] = (),
    datasets: Sequence[str] = ("mannequins",),
    tested: Sequence[str] = (),
) -> list[Cell]:
    """The cells of a ``run``; each parser's weights are a file with its name in it."""

    def label_maps(index: Step, parser: str) -> Step:
        weights = tmp_path / f"{parser}.pth"
        weights.write_text(parser)
        return requests.maps(index, model=parser, weights=weights)

    return combinations(
        terminal,
        recipes,
        datasets,
        parsers,
        read_seeds([seeds]),
        label_maps=label_maps,
        variations=read_variations(varied),
        tested=tested,
    )


def above(step: Step) -> dict[str, set[str]]:
    """Keys of everything ``step`` stands on, by kind; features and prompts with maps apart."""
    found: dict[str, set[str]] = {}

    def visit(step: Step) -> None:
        name = step.name
        if name == "features":
            name += "-of-parts" if step.params["parts"] else ""
        if name == "prompts":
            name = step.params["stage"]["name"]
        found.setdefault(name, set()).add(step.key)
        for source in step.inputs.values():
            visit(source)

    visit(step)
    return found


def test_the_table_of_parsers_shares_everything_but_the_maps(terminal: Terminal, tmp_path: Path):
    """Table 4 of the paper: ``run pi-vl-rn50 --parsing schp,solider,invpt``."""
    parsers = ["schp", "solider", "invpt"]
    cells = planned(terminal, tmp_path, ["pi-vl-rn50"], parsers)
    assert [cell.parsing for cell in cells] == parsers
    keys = [above(cell.evaluation) for cell in cells]
    for name in ("index", "images", "features", "identity-prompts"):
        assert keys[0][name] == keys[1][name] == keys[2][name], name
    # One packing for training and frozen features' own filter, one for the test.
    assert len(keys[0]["images"]) == 2
    for name in ("maps", "features-of-parts", "part-prompts", "text", "model", "evaluation"):
        assert len(set.union(*(found[name] for found in keys))) == 3, name


def test_the_table_of_ablations_shares_the_first_stage(terminal: Terminal, tmp_path: Path):
    recipes = ["clip-reid-rn50", "pi-vl-rn50-h", "pi-vl-rn50-p", "pi-vl-rn50", "pi-vl-rn50-w"]
    cells = planned(terminal, tmp_path, recipes, ["schp", "solider"], seeds="0-1")
    plain = [cell for cell in cells if cell.recipe == "clip-reid-rn50"]
    assert [(cell.parsing, cell.seed) for cell in plain] == [(None, 0), (None, 1)]
    assert "maps" not in above(plain[0].evaluation)
    assert len(cells) == 2 + 4 * 2 * 2
    assert [cell.parsing for cell in cells[2:6]] == ["schp", "schp", "solider", "solider"]
    everything: dict[str, set[str]] = {}
    for cell in cells:
        for name, found in above(cell.evaluation).items():
            everything.setdefault(name, set()).update(found)
    # One index, two filters, one set of frozen features for all recipes, parsers and seeds.
    counts = {name: len(found) for name, found in everything.items()}
    assert (counts["index"], counts["images"], counts["features"]) == (1, 2, 1)
    assert (counts["identity-prompts"], counts["maps"]) == (2, 2)  # per seed; per parser
    assert counts["part-prompts"] == 2 * 2  # those of -p, full and -w are the same
    assert counts["model"] == len(cells)


def test_a_report_shows_the_maps_of_its_first_dataset(terminal: Terminal, tmp_path: Path):
    cells = planned(terminal, tmp_path, ["baseline-tiny", "pi-vl-rn50"], ["invpt", "schp"])
    evaluations = [cell.evaluation for cell in cells]
    maps = shared_maps(evaluations)
    assert maps is not None and maps.params["model"] == "invpt"
    assert shared_maps(evaluations[:1]) is None
    kept = step_of(evaluations[-1].inputs["model"], 1)
    index = evaluations[0].inputs["index"]
    epoch = requests.evaluation(kept, index, protocol="standard", exclude="none")
    found = shared_maps([evaluations[0], epoch])
    assert found is not None and found.params["model"] == "schp"


def test_a_setting_that_varies_is_a_row_per_value(terminal: Terminal, tmp_path: Path):
    varied = ["stages.image.epochs=8,24"]
    cells = planned(terminal, tmp_path, ["clip-reid-rn50"], [], varied=varied)
    at = ["stages.image.epochs=8", "stages.image.epochs=24"]
    assert [cell.row for cell in cells] == [
        Row("clip-reid-rn50", "mannequins", None, settings) for settings in at
    ]
    keys = [above(cell.evaluation) for cell in cells]
    assert keys[0]["identity-prompts"] == keys[1]["identity-prompts"]
    assert keys[0]["model"] != keys[1]["model"]


def test_one_training_is_tested_on_several_datasets(terminal: Terminal, tmp_path: Path):
    recipes, datasets = ["clip-reid-rn50", "clip-reid-vit"], ["mannequins", "mannequins:images-2"]
    tested = ["mannequins:unoccluded", "mannequins:occluded-third"]
    cells = planned(terminal, tmp_path, recipes, [], datasets=datasets, tested=tested)
    assert len({cell.model.key for cell in cells}) == 4
    assert len({cell.evaluation.key for cell in cells}) == len(cells) == 8
    assert {cell.evaluation.inputs["index"].params["dataset"] for cell in cells} == set(tested)
    assert [cell.tested for cell in cells] == tested * 4
    names = named(cells)
    row = Row("clip-reid-vit", "mannequins:images-2", None, "", "mannequins:occluded-third")
    assert names[row] == "clip-reid-vit trained on mannequins:images-2"
    # Of one training set each, whatever it is tested on.
    assert pairs_with(names, "clip-reid-rn50") == {
        frozenset(f"{recipe} trained on {dataset}" for recipe in recipes) for dataset in datasets
    }
    once = planned(terminal, tmp_path, recipes, [], tested=tested)
    assert set(named(once).values()) == set(recipes)


def test_each_row_is_tested_against_those_of_a_recipe_at_the_same_settings():
    """B on two sets of epochs, and pi-VL with two parsers on both."""
    at = ("epochs=8", "epochs=24")
    parsers = {"b": (None,), "p": ("schp", "exact:borders=2")}
    rows = [Row(r, "d", m, s) for r, maps in parsers.items() for s in at for m in maps]
    names = named([cast("Cell", SimpleNamespace(row=row)) for row in rows])
    assert list(names.values())[::3] == ["b at epochs=8", "p with exact:borders=2 at epochs=8"]
    assert pairs_with(names, "b") == {
        frozenset((f"b at {settings}", f"p with {parser} at {settings}"))
        for settings in at
        for parser in parsers["p"]
    }
    assert len(pairs_with(names, "p")) == 2 * 3  # each parser with B, and with the other
    assert len(pairs_with(names, "p with schp")) == 2 * 2
    plain = named([cast("Cell", SimpleNamespace(row=row)) for row in rows if row.parsing != "schp"])
    assert "p at epochs=8" in plain.values()
    with pytest.raises(ReidpipeError, match="found --against p with shcp .did you mean 'p with sc"):
        pairs_with(names, "p with shcp")


def test_two_recipes_of_one_name_are_refused(terminal: Terminal, tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("base: baseline-tiny\n")
    paths = [str(tmp_path / folder / "mine.yaml") for folder in ("a", "b")]
    with pytest.raises(ReidpipeError, match="2 recipes called 'mine'"):
        planned(terminal, tmp_path, paths, [])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_seeds_are_read_back(seeds: list[int]):
    unique = tuple(dict.fromkeys(seeds))
    assert read_seeds([str(seed) for seed in seeds]) == unique
    assert read_seeds([",".join(map(str, seeds))]) == unique


def test_seeds_and_names():
    assert read_seeds(["0-2", "2-3,9"]) == (0, 1, 2, 3, 9)
    for wrong in ("3-1", "-1", "a", "1-", ""):
        with pytest.raises(ReidpipeError, match="type --seed 0-4"):
            read_seeds([wrong])
    assert read_names(["schp,solider", "schp"], "--parsing") == ("schp", "solider")
    with pytest.raises(ReidpipeError, match="empty name in --parsing schp,"):
        read_names(["schp,"], "--parsing")


def test_spread_is_the_sample_standard_deviation():
    found = spread([0.2, 0.4, 0.9])
    # mean 0.5; squares 0.09 + 0.01 + 0.16 over 2
    assert found["mean"] == pytest.approx(0.5) and found["std"] == pytest.approx(0.13**0.5)
    assert found["n"] == 3 and spread([0.3]) == {"mean": 0.3, "std": None, "n": 1, "values": [0.3]}
    measures = {name: found for name in ("mAP", "Rank-1", "Rank-5")} | {"mINP": spread([1.0])}
    row = {"recipe": "r", "dataset": "d", "parsing": None, "seeds": [0, 1, 2], **measures}
    last = table([row]).splitlines()[-1]
    assert last.split() == ["r", "d", "-", "3", *["50.0", "±", "36.1"] * 3, "100.0"]


def test_run_trains_each_seed_once_and_averages_them(trained: Console):
    assert "which reads no label maps" in trained.mistake(*RUN, "--parsing", "schp-tiny")
    found = trained.json(*RUN, "--seed", "0-1", "--report")
    (row,) = found["rows"]
    assert (row["recipe"], row["dataset"], row["parsing"]) == ("baseline-tiny", "folder", None)
    assert row["seeds"] == [0, 1] and len(found["made"]) == 3  # seed 0 was trained and evaluated
    each = [trained.json("eval", run) for run in row["runs"]]
    assert row["mAP"]["values"] == [metrics["mAP"] for metrics in each]
    assert row["mAP"]["mean"] == pytest.approx(sum(row["mAP"]["values"]) / 2)
    assert row["Rank-5"]["values"] == [metrics["cmc"]["5"] for metrics in each]
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert row["runs"][0] in page and row["runs"][1] not in page

    words = (*RUN, "--seed", "0", "--seed", "1", "--report")
    text = trained(*words).stdout
    assert "nothing to do: all " in text and " ± " in text
    assert "protocol: folder standard, excluded same-camera, 12 of 12 queries valid" in text
    assert [run["run"] for run in trained.json("status")["runs"]] == row["runs"]


def test_run_makes_a_row_per_recipe_and_dataset(trained: Console, few_people: None):
    words = (*RUN, "--dataset", "mannequins", "--json")
    found = json.loads(trained(*words).stdout)
    assert [row["dataset"] for row in found["rows"]] == ["folder", "mannequins"]
    assert all(row["mAP"]["std"] is None for row in found["rows"])


def test_run_tests_each_model_elsewhere(trained: Console, few_people: None):
    words = (*RUN, "--test-on", "folder,mannequins")
    found = trained.json(*words)
    assert [(row["dataset"], row["tested"]) for row in found["rows"]] == [
        ("folder", "folder"), ("folder", "mannequins"),
    ]  # fmt: skip
    here, there = found["rows"]
    assert here["runs"] == there["runs"] and here["protocol"] != there["protocol"]
    assert here["mAP"] == trained.json(*RUN)["rows"][0]["mAP"]
    alone = trained.json("eval", *there["runs"], "--dataset", "mannequins")
    assert there["mAP"]["values"] == [alone["mAP"]]
    assert trained(*words).stdout.splitlines()[0].split()[:3] == ["recipe", "dataset", "tested"]
    assert "tested" not in trained(*RUN).stdout.splitlines()[0]


def test_run_makes_a_row_per_varied_setting(trained: Console):
    words = (*RUN, "--vary", "test.flip=false,true")
    line = trained.mistake(*words, "--against", "baseline-tiny")
    assert "no other row with the same data and settings" in line and "leave --against out" in line
    found = trained.json(*words)
    assert [row["settings"] for row in found["rows"]] == ["test.flip=false", "test.flip=true"]
    lines = trained(*words).stdout.splitlines()
    assert lines[0].split()[:4] == ["recipe", "dataset", "parsing", "settings"]
    assert "settings" not in trained(*RUN).stdout.splitlines()[0]


def test_run_says_which_differences_are_beyond_noise(trained: Console, tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: baseline-tiny\ntest: {flip: true}\n")
    words = ("run", str(mine), *RUN[1:], "--seed", "0-1")
    result = trained(*words)
    (heading,) = (line for line in result.stdout.splitlines() if line.startswith("differences"))
    assert "protocol standard, paired over 6 people and 2 seeds" in heading
    warned = [line for line in result.stderr.splitlines() if line.startswith("warning: mAP ")]
    found = trained.json(*words)
    assert [row["measure"] for row in found["differences"]] == ["mAP", "Rank-1"]
    first = found["differences"][0]
    means = {row["recipe"]: row["mAP"]["mean"] for row in found["rows"]}
    apart = means[first["better"]] - means[first["worse"]]
    assert first["difference"] == pytest.approx(apart, abs=1e-6) and apart >= 0
    assert first["interval"][0] <= apart <= first["interval"][1]
    assert f"  {first['better']} over {first['worse']}: mAP +" in result.stdout
    # Of a model of one epoch a random ranking is as good.
    runs = [run for row in found["rows"] for run in row["runs"]]
    assert warned and all(any(run in line for run in runs) for line in warned)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("RECIPE", "type reidpipe run -h")),
        (("baseline-tinny",), ("did you mean 'baseline-tiny'?",)),
        (("baseline-tiny", "--seed", "4-1"), ("found --seed 4-1", "--seed 0-4")),
        (("baseline-tiny", "--dataset", "market1500"), ("did you mean 'market1501'?",)),
        (("baseline-tiny", "--test-on", "market1500"), ("did you mean 'market1501'?",)),
        (("pi-vl-rn50", "--parsing", "schp-tiny,shcp"), ("parser 'shcp'", "'schp'?")),
        (("baseline-tiny", "--set", "stages.0.epoch=1"), ("did you mean 'stages.0.epochs'?",)),
        (("baseline-tiny", "--pretrained", "opnai"), ("found no file opnai",)),
        (("baseline-tiny", "--vary", "stages.0.epochs=3"), ("two values or more",)),
        (
            ("baseline-tiny", "--vary", "stages.0.epoch=1,2"),
            ("did you mean 'stages.0.epochs'?",),
        ),
        (
            ("baseline-tiny", "--epochs", "3", "--vary", "stages.image.epochs=8,24"),
            ("found --vary stages.image.epochs=8,24 and --epochs 3", "expected each key once"),
        ),
        (("baseline-tiny", "--against", "baseline"), ("did you mean 'baseline-tiny'?",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes_are_found_before_anything_runs(
    console: Console, words: tuple[str, ...], parts: tuple[str, ...]
):
    line = console.mistake("run", *words)
    assert all(part in line for part in parts), line
    assert not list(console.root.glob("artifacts/*/*"))

"""``reidpipe figure``: what a person types, gets and is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from pipeline.artifacts import requests
from pipeline.artifacts.atomic import read_json
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.charts.differences import Apart
from reid_train.figures.charts.differences import differences as chart
from reid_train.figures.paper import training
from reid_train.figures.paper.asked import Asked, one_question, spread
from reid_train.figures.paper.rows import read_rows
from tests.cli.conftest import TRAIN, Console
from tests.cli.test_commands import SHORT
from tests.cli.test_repeat import repeated
from tests.cli.test_run import RUN

TITLE, DESC = "{http://www.w3.org/2000/svg}title", "{http://www.w3.org/2000/svg}desc"


@pytest.mark.parametrize("kind", ["cmc", "roc", "det", "histogram", "ranked"])
def test_a_figure_of_an_evaluation_says_its_protocol(trained: Console, tmp_path: Path, kind: str):
    out = tmp_path / "new" / "figure.svg"
    words = ("figure", kind, "baseline-tiny", "--out", out, "--label", "My <run> & $x$")
    told = trained.json(*words)
    for asked in ("protocol standard", "exclude same-camera", "12 of 12 queries", "32x16 pixels"):
        assert asked in told["caption"]
    root = ElementTree.parse(out).getroot()
    assert root.findtext(DESC) == told["caption"]
    assert (root.findtext(TITLE) or "").endswith(": My <run> & $x$")
    before = out.read_bytes()
    lines = trained(*words).stdout.splitlines()
    assert lines[0] == told["latex"]
    assert lines[-1] == f"figure {out}" and lines[-2].startswith("nothing to do")
    assert out.read_bytes() == before


def test_curves_and_bands_are_said(trained: Console, tmp_path: Path):
    told = trained.json("figure", "curves", "baseline-tiny", "--out", tmp_path / "c.png")
    assert "trained: baseline-tiny-folder" in told["caption"]
    with Image.open(tmp_path / "c.png") as image:
        assert image.width == 2100 and image.info["Description"] == told["caption"]
    told = trained.json("figure", "cmc", "baseline-tiny", "--out", tmp_path / "c.PDF", "--top", "5")
    assert "95 % intervals, bootstrap over 6 identities" in told["caption"]
    assert r"95 \% intervals" in told["latex"]
    assert (tmp_path / "c.PDF").read_bytes().startswith(b"%PDF")


def test_what_is_missing_is_made_first(trained: Console, tmp_path: Path, few_people: None):
    out = tmp_path / "cmc.svg"
    told = trained.json(
        "figure", "cmc", "baseline-tiny", "--dataset", "mannequins", "--out", out,
        "--device", "cpu",
    )  # fmt: skip
    assert told["made"] and "mannequins (index" in told["caption"] and out.is_file()


def test_activations_of_named_queries(trained: Console, tmp_path: Path):
    listed = trained.json("eval", "baseline-tiny")
    index = read_json(Path(listed["folder"]) / "protocol.json")["inputs"]["index"]
    rows = (trained.root / "artifacts" / "index" / index / "index.csv").read_text().splitlines()
    key = next(row.split(",")[0] for row in rows if ",query," in row)
    words = ("figure", "activations", "baseline-tiny", "--query", key, "--device", "cpu")
    out = tmp_path / "a.svg"
    told = trained.json(*words, "--out", out, "--title", "Where it looks")
    assert len(told["made"]) == 1 and f"queries {key}, chosen by hand" in told["caption"]
    assert ElementTree.parse(out).getroot().findtext(TITLE) == "Where it looks"
    assert out.read_text().count("<image") == 2
    again = repeated(trained, *words, "--out", out)
    loaded = json.loads(again.stderr.splitlines()[-1].removeprefix("LOADED ").replace("'", '"'))
    assert "nothing to do" in again.stdout and loaded == ["matplotlib"]
    line = trained.mistake(*words[:-4], "--query", "nobody.png", "--out", out)
    assert "found --query nobody.png, which is no image of folder" in line
    gallery = next(row.split(",")[0] for row in rows if ",gallery," in row)
    line = trained.mistake("figure", "ranked", "baseline-tiny", "--query", gallery, "--out", out)
    assert f"found --query {gallery}, which is no query of folder standard" in line


def test_differences_of_rows_over_seeds(
    trained: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: baseline-tiny\ntest: {flip: true}\n")
    words = ("run", str(mine), *RUN[1:], "--seed", "0-1", "--against", "baseline-tiny")
    tested = trained.json(*words)["differences"][0]
    drawn: dict[str, Apart] = {}

    def drawing(rows: dict[str, Apart], **more: Any) -> Any:
        drawn.update(rows)
        return chart(rows, **more)

    monkeypatch.setattr("reid_train.figures.paper.differences.differences", drawing)
    words = ("figure", "differences", "baseline-tiny", "mine", "--out", tmp_path / "d.svg")
    told = trained.json(*words)
    assert len(told["runs"]) == 4 and told["made"] == []
    assert told["caption"].startswith(
        "mAP of each row less that of baseline-tiny, paired by seed, 2 in"
    )
    assert "protocol standard" in told["caption"]
    title = ElementTree.parse(tmp_path / "d.svg").getroot().findtext(TITLE)
    assert title == "Differences: baseline-tiny, mine"
    sign = 100 if tested["better"] == "mine" else -100
    assert drawn["mine"].value == pytest.approx(sign * tested["difference"])
    for interval, test in (
        (drawn["mine"].seeds, tested["over_seeds"]),
        (drawn["mine"].both, tested),
    ):
        assert interval == pytest.approx(sorted(sign * end for end in test["interval"]))
    trained(*words, "--label", "B", "--label", "flipped")
    assert "flipped" in drawn


def test_rows_of_several_datasets_each_beside_its_own(
    trained: Console, tmp_path: Path, few_people: None
):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: baseline-tiny\ntest: {flip: true}\n")
    trained("run", str(mine), *RUN[2:], "--dataset", "mannequins", "--seed", "0-1")
    out = ("--out", tmp_path / "d.svg")
    line = trained.mistake("figure", "differences", "baseline-tiny", "mine", *out)
    assert "found mine on mannequins and no baseline-tiny on it" in line
    assert line.endswith("type reidpipe run baseline-tiny --dataset mannequins")
    trained(*RUN, "--dataset", "mannequins", "--seed", "0-1")
    told = trained.json("figure", "differences", "baseline-tiny", "mine", *out)
    assert told["caption"].startswith(
        "mAP of each row less that of baseline-tiny on the same dataset, paired by seed, 2 in"
    )
    assert "; mine on mannequins: mannequins (index" in told["caption"]
    rows = read_rows(Workspace(trained.root), ["baseline-tiny", "mine"], [])
    assert {name: row.against for name, row in rows.items() if row.against} == {
        "mine on folder": "baseline-tiny on folder",
        "mine on mannequins": "baseline-tiny on mannequins",
    }


def test_rows_that_differ_in_a_setting_are_called_by_it(trained: Console, tmp_path: Path):
    trained(*RUN, "--seed", "0-1", "--vary", "test.flip=false,true")
    rows = read_rows(Workspace(trained.root), ["baseline-tiny"], [])
    assert {name: [run.seed for run in row.runs] for name, row in rows.items()} == {
        "baseline-tiny at test.flip=false": [0, 1],
        "baseline-tiny at test.flip=true": [0, 1],
    }
    words = ("figure", "differences", "baseline-tiny", "--out", tmp_path / "d.svg")
    assert "found 1 --label (x) for 2 rows (baseline-" in trained.mistake(*words, "--label", "x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cmc", "--out", "a.jpg"), "ends with .svg, .pdf or .png; type --out a.svg"),
        (("cmc", "--out", "."), "expected a name that ends"),
        (("cloud", "--out", "a.svg"), "'cloud' is not one of 'cmc', 'roc', 'det'"),
        (("cmc",), "Missing option '--out'"),
        (("roc", "--out", "a.svg", "--top", "3"), "found --top for figure roc; expected --dataset"),
        (("curves", "--out", "a.svg", "--protocol", "x"), "found --protocol for figure curves"),
        (("curves", "--out", "a.svg", "--feature", "x"), "found --feature for figure curves"),
        (("ranked", "--out", "a.svg", "--query", "0"), "an image's key or 1 to 20"),
        (("cmc", "--out", "a.svg", "--top", "51"), "51 is not in the range"),
        (("cmc", "--out", "a.svg", "--label", "a", "--label", "b"), "found 2 --label (a, b) for 1"),
        (("cmc", "--out", "a.svg", "--protocol", "x"), "found protocol 'x'"),
        (("differences", "--out", "a.svg"), "found one row, baseline-tiny; expected the row that"),
        (("differences", "bas", "--out", "a.svg"), "found one row, baseline-tiny; expected"),
        (("differences", "mine", "--out", "a.svg"), "found no run 'mine'"),
        (("maps", "--out", "a.svg"), "which read no label maps; expected runs of part-informed"),
        (("parts", "--out", "a.svg"), "that read label maps of folder (they read those of: none)"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    trained: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words, told: str
):
    monkeypatch.chdir(tmp_path)
    line = trained.mistake("figure", words[0], "baseline-tiny", *words[1:])
    assert told in line
    assert not list(tmp_path.glob("a.*"))


def test_withdrawn_images_are_in_no_figure(
    trained: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "reid_train.figures.paper.commands.pictures_allowed", lambda *_: False
    )  # fmt: skip
    for kind in ("ranked", "activations"):
        line = trained.mistake("figure", kind, "baseline-tiny", "--out", tmp_path / "a.svg")
        assert "found images of folder, which its publisher has withdrawn" in line
    trained("figure", "cmc", "baseline-tiny", "--out", tmp_path / "a.svg")


def test_runs_of_two_questions_are_not_drawn_as_one():
    model = Step("model", {"recipe": {"input": {"size": [8, 4], "test_filter": "bilinear"}}})

    def asked(dataset: str, protocol: str) -> Step:
        index = requests.index(dataset, {})
        return requests.evaluation(model, index, protocol=protocol, exclude="none")

    one_question(["a", "b"], [asked("d", "p"), asked("d", "p")])
    for other in (asked("e", "p"), asked("d", "q")):
        with pytest.raises(ReidpipeError, match="found a on d p.* and b on .*type --dataset d"):
            one_question(["a", "b"], [asked("d", "p"), other])


def test_a_model_trained_elsewhere_has_no_curves(tmp_path: Path):
    run = Run("theirs", "theirs", "market1501", None, 0.0, Step("model", {}))
    asked = Asked(Workspace(tmp_path), {"theirs": run}, [], "one")
    with pytest.raises(ReidpipeError, match="imported without a log.*type reidpipe train"):
        training.steps(asked)


def test_images_are_chosen_evenly_and_maps_know_their_index():
    assert spread(["d", "a", "c", "b"], 2) == ["a", "d"]
    assert spread([str(n) for n in range(9)], 3) == ["0", "4", "8"]
    assert spread(["b", "a"], 5) == ["a", "b"] and spread(["b", "a"], 1) == ["a"]
    index = requests.index("d", {})
    maps = requests.maps(index, model="schp-tiny", weights=None)
    assert requests.index_of(maps) == index == requests.index_of(requests.centred(maps))


@pytest.mark.slow
def test_figures_of_parts_and_of_two_runs(trained: Console, tmp_path: Path):
    settings = [word for value in SHORT for word in ("--set", value)]
    where = ("--dataset", "folder", "--device", "cpu")
    trained("train", "pi-vl-tiny", *where, "--pretrained", "none", *settings)
    trained("train", "baseline-tiny", *where, "--seed", "1", *TRAIN)
    out = tmp_path / "f.svg"
    told = trained.json("figure", "maps", "pi-vl-tiny", "--out", out, "--query", "3")
    assert "by schp-tiny (labels lip, 256x128" in told["caption"]
    assert out.read_text().count("<image") == 6
    both = ("baseline-tiny-folder-s1", "pi-vl-tiny", "--out", out, "--device", "cpu")
    alone = ("pi-vl-tiny", "--out", out, "--device", "cpu")
    told = trained.json("figure", "parts", *alone)
    assert told["caption"].count("silhouette") == 1 and "Cells of " in told["caption"]
    # A map of an image of 32x16 pixels has too few cells.
    assert "without cells to draw" in trained("figure", "parts", *both, code=2).stderr
    told = trained.json("figure", "activations", *both, "--width", "one")
    assert out.read_text().count("<image") == 3 * 4
    assert "baseline-tiny-folder-s1" in told["caption"]
    for kind in ("cmc", "roc", "det", "curves", "histogram", "ranked"):
        told = trained.json("figure", kind, *both)
        assert len(told["runs"]) == 2
    again = trained.json("figure", "parts", *alone)
    assert not again["made"]

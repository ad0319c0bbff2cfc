"""Work does not grow faster than the workspace: each file is read once, counted, not timed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.artifacts import mark, runs
from pipeline.artifacts.runs import Run, find_run, record_runs
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.commandline import Terminal
from reid_train.recipe import arguments, steps
from reid_train.recipe.combinations import Cell, combinations
from reid_train.recipe.schema import Recipe
from tests.cli.conftest import Console


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each mark and each run is read."""
    counts: Counter[str] = Counter()
    for module in (mark, runs):

        def counted(path: Path, usual=module.read_json) -> object:
            counts[f"{Path(path).parent.name}/{Path(path).name}"] += 1
            return usual(path)

        monkeypatch.setattr(module, "read_json", counted)
    return counts


def named(console: Console, *names: str) -> list[str]:
    """More runs of the one model of a workspace."""
    workspace = Workspace(console.root)
    model = find_run(workspace, None).model
    found = record_runs(workspace, [Run.of(name, "folder", 0, model) for name in names])
    return [run.name for run in found]


def test_status_reads_each_mark_and_each_run_once(trained: Console, reads: Counter[str]):
    named(trained, "a", "b", "c")
    reads.clear()
    found = trained.json("status")
    assert len(found["runs"]) == 4 and {run["state"] for run in found["runs"]} == {"ready"}
    assert len(reads) == len(found["artifacts"]) + 4 and set(reads.values()) == {1}


@pytest.mark.parametrize("words", [("cache", "ls"), ("cache", "rm", "unfinished")])
def test_cache_reads_each_mark_once(trained: Console, reads: Counter[str], words: tuple[str, ...]):
    trained(*words)
    assert len(reads) == 4 and set(reads.values()) == {1}


def test_several_runs_are_looked_for_once(trained: Console, reads: Counter[str]):
    names = named(trained, "a", "b", "c")
    reads.clear()
    assert len(trained.json("eval", *names)) == 3
    trained("report", *names, "--device", "cpu")
    assert [count for path, count in reads.items() if path.endswith("run.json")] == [2] * 4


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a network is made to see whether it can be, a file of weights read and a recipe."""
    counts: Counter[str] = Counter()

    def load_recipe(name: str, changes: dict[str, str], usual=arguments.load_recipe) -> Recipe:
        counts[f"{name} {' '.join(changes.values())}".strip()] += 1
        return usual(name, changes)

    monkeypatch.setattr(arguments, "load_recipe", load_recipe)

    def check_made(recipe: Recipe, start: str) -> None:
        counts[f"{recipe.name} lr {recipe.stages[-1].optimiser.lr} from {Path(start).name}"] += 1

    def digest(path: Path, usual=steps.sha256_file) -> str:
        counts[Path(path).name] += 1
        return usual(path)

    monkeypatch.setattr(arguments, "check_made", check_made)
    monkeypatch.setattr(steps, "sha256_file", digest)
    return counts


def planned(root: Path, recipes: list[str], **asked) -> list[Cell]:
    def label_maps(index: Step, parser: str) -> Step:
        raise AssertionError(f"no recipe here reads maps: {index} {parser}")

    terminal = Terminal(Workspace(root), as_json=True)
    datasets = ["mannequins", "mannequins:images-2"]
    seeds = range(5)
    return combinations(
        terminal, recipes, datasets, ["exact"], seeds, label_maps=label_maps, **asked
    )


def test_a_recipe_is_tried_and_a_file_read_once_for_all_seeds(
    tmp_path: Path, looked_at: Counter[str]
):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    key = "stages.image.optimiser.lr"
    cells = planned(
        tmp_path / "workspace",
        ["baseline-tiny"],
        pretrained=str(file),
        variations=[(f"{key}=0.5",), (f"{key}=0.25",)],
    )
    assert len({cell.model.key for cell in cells}) == 2 * 2 * 5
    assert looked_at == {
        "baseline-tiny lr 0.5 from weights.pth": 1,
        "baseline-tiny lr 0.25 from weights.pth": 1,
        "weights.pth": 1,
        "baseline-tiny 0.5": 1,
        "baseline-tiny 0.25": 1,
    }


def test_two_recipes_are_two(tmp_path: Path, looked_at: Counter[str]):
    cells = planned(tmp_path / "workspace", ["baseline-tiny", "clip-reid-tiny"])
    assert len(cells) == 2 * 2 * 5
    tried = [count for name, count in looked_at.items() if " lr " in name]
    assert tried == [1, 1] and set(looked_at.values()) == {1}


def test_the_next_command_reads_the_file_again(tmp_path: Path, looked_at: Counter[str]):
    """What a command knows of a file ends with it: the file may be another then."""
    file, keys = tmp_path / "weights.pth", []
    for content in (b"one", b"other"):
        file.write_bytes(content)
        cells = planned(tmp_path / "workspace", ["baseline-tiny"], pretrained=str(file))
        keys.append(cells[0].model.key)
    assert looked_at["weights.pth"] == 2 and keys[0] != keys[1]

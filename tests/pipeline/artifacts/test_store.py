from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from pipeline.artifacts.graph import missing, run
from pipeline.artifacts.leases import this_kernel
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from tests.pipeline.artifacts import workers


def step(value: int, *, worker: str = "number", resumable: bool = False, **inputs: Step) -> Step:
    assert worker in workers.KINDS
    return Step(f"{worker}-resumable" if resumable else worker, {"value": value}, inputs)


def calls(workspace: Workspace) -> list[str]:
    path = workspace.root / "calls.txt"
    return path.read_text().split() if path.exists() else []


def test_key_changes_with_everything_it_names_and_with_nothing_else() -> None:
    base = step(1, a=step(2))
    assert base.key == step(1, a=step(2)).key
    assert base.key != step(3, a=step(2)).key
    assert base.key != step(1, a=step(3)).key
    assert base.key != step(1, b=step(2)).key
    assert base.key != Step("number", base.params, base.inputs, version=2).key
    assert base.key != Step("number", base.params, base.inputs, {"w": "00"}).key
    assert base.key == Step("number", {"value": 7}, base.inputs, keyed=base.params).key
    assert Step.from_plain(base.plain()).key == base.key


def test_shared_input_is_made_once_and_a_second_run_makes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    shared = step(1)
    left, right = step(10, source=shared), step(20, source=shared)
    top = step(100, left=left, right=right)
    outcome = run(workspace, [top])
    assert (workspace.folder(top) / "number.txt").read_text() == "132"
    assert sorted(calls(workspace)) == ["1", "10", "100", "20"]
    assert len(outcome.made) == 4 and not outcome.reused
    again = run(workspace, [top])
    assert not again.made and len(again.reused) == 4
    assert len(calls(workspace)) == 4
    assert workspace.provenance(top)["summary"] == {"total": 132}


def test_what_killed_commands_left_goes_though_nothing_is_made(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    top = step(2, source=step(1))
    run(workspace, [top])
    dead = json.dumps({"kernel": this_kernel(), "pid": 0, "start": "", "token": "a"})
    folder = workspace.folder(top)
    left = [
        folder.with_name(f"{top.key}.lease"),
        folder.with_name(f"{top.key}.lease-0123"),
        folder.with_name(f"{top.key}.shards.lease-4567"),
        tmp_path / "machines" / "host.lease",
        tmp_path / "queue" / "host-1.json",
        tmp_path / "queue" / "host-1.lease",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text(dead)
    assert not run(workspace, [top]).made
    assert [path for path in left if path.exists()] == []
    assert not (tmp_path / "queue").exists() and workspace.complete(top)


def test_a_result_stands_without_its_inputs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    top = step(2, source=step(1))
    run(workspace, [top])
    (source,) = [a for a in workspace.artifacts() if a.key == top.inputs["source"].key]
    workspace.remove(source)
    assert missing(workspace, [top]) == []


def test_failure_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    broken = step(1, worker="fail_after_writing")
    with pytest.raises(OSError, match="No space left"):
        run(workspace, [broken])
    assert not workspace.complete(broken)
    assert missing(workspace, [broken]) == [broken]


@pytest.mark.parametrize("resumable", [False, True])
def test_killed_worker_frees_its_lock_and_only_a_resumable_step_keeps_files(
    tmp_path: Path, resumable: bool
) -> None:
    workspace = Workspace(tmp_path)
    target = step(1, worker="killed_once", resumable=resumable)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_make, args=(tmp_path, target))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    run(workspace, [target])
    expected = ["first.txt"] if resumable else []
    assert workspace.provenance(target)["summary"] == {"left": expected}


def test_two_processes_wanting_one_artifact_make_it_once(tmp_path: Path) -> None:
    target = step(1, worker="slow")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_make, args=(tmp_path, target)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert calls(Workspace(tmp_path)) == ["slow"]


def test_damage_is_named_and_repaired(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    whole, resumable = step(1), step(2, resumable=True)
    separate = Step("number-separate", {"value": 3})
    run(workspace, [whole, resumable, separate])
    for target in (whole, resumable, separate):
        (workspace.folder(target) / "number.txt").write_text("9")
    for artifact in workspace.artifacts():
        assert workspace.damage(artifact) == ["number.txt"]
        assert workspace.repair(artifact, ["number.txt"])
    assert not workspace.folder(whole).exists() and not workspace.folder(resumable).exists()
    assert workspace.folder(separate).exists() and not workspace.complete(separate)
    run(workspace, [whole, resumable, separate])
    assert all(workspace.damage(artifact) == [] for artifact in workspace.artifacts())


def test_nothing_heavy_is_imported_when_all_is_there(tmp_path: Path) -> None:
    import subprocess

    workspace = Workspace(tmp_path)
    run(workspace, [step(1)])
    code = (
        "import sys; from pathlib import Path; from pipeline.artifacts.graph import run;"
        "from pipeline.artifacts.store import Workspace;"
        "from tests.pipeline.artifacts.test_store import step;"
        f"assert not run(Workspace(Path({str(tmp_path)!r})), [step(1)]).made;"
        "assert not {'torch', 'dask', 'open_clip', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def _make(root: Path, target: Step) -> None:
    Workspace(root).make(target, Execution())


@pytest.mark.parametrize("collective", [False, True])
def test_under_torchrun_others_join_collective_steps_and_await_the_rest(
    tmp_path: Path, collective: bool
) -> None:
    target = Step("slow-collective" if collective else "slow", {"value": 1})
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_rank, args=(rank, tmp_path, target)) for rank in (1, 0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert calls(Workspace(tmp_path)) == ["slow"] * (2 if collective else 1)


def _rank(rank: int, root: Path, target: Step) -> None:
    import os

    os.environ["RANK"] = str(rank)
    _make(root, target)
    assert Workspace(root).complete(target)


def test_what_a_killed_process_left_half_written_is_no_part_of_an_artifact(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    top = step(3, resumable=True)
    half = workspace.folder(top) / ".state.pt.tmp-99999"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    run(workspace, [top])
    assert not half.exists() and list(workspace.provenance(top)["files"]) == ["number.txt"]

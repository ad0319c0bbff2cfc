"""Measurements in processes of their own: limits, crashes, lines."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import parsing_models.parsers.interface  # noqa: F401, so that forked processes have it
from benchmarks.gpu import running
from benchmarks.gpu.given import Given
from benchmarks.gpu.order import FIRST, Measurement, order
from benchmarks.gpu.sizes import REHEARSAL

WORKS = "tests.benchmarks.gpu.works"


def taken(folder: Path, *names: str, seconds: float = 600, limit: float = 20) -> list[dict]:
    lines: list[dict[str, Any]] = []
    running.run(
        [Measurement(name, f"{WORKS}:{name}", limit) for name in names],
        Given(folder, "cpu", REHEARSAL), seconds=seconds, line=lines.append, method="fork",
    )  # fmt: skip
    return lines


def test_what_becomes_of_one_measurement_is_told_and_the_others_go_on(tmp_path: Path):
    lines = taken(tmp_path, "fine", "wrong", "full", "absent", "dying", "machine", "fine")
    assert [line["outcome"] for line in lines] == [
        "measured", "failed", "out of memory", "skipped", "died", "measured", "measured",
    ]  # fmt: skip
    assert lines[1]["reason"] == "ValueError: found this and that"
    assert lines[1]["at"].startswith("tests/benchmarks/gpu/works.py:")
    assert "20 GiB" in lines[2]["reason"] and lines[4]["reason"] == "killed by SIGKILL"
    # What the machine reached is what later shares are of.
    assert lines[0]["peak"] is None and lines[-1]["peak"] == 5e12
    assert lines[0]["limit"] == 20 and all(line["took_s"] < 20 for line in lines)


def test_a_limit_ends_what_hangs_and_all_time_is_shared(tmp_path: Path):
    given, lines = Given(tmp_path, "cpu", REHEARSAL), []
    listed = [
        Measurement("hanging", f"{WORKS}:hanging", 1.0),
        Measurement("fine", f"{WORKS}:fine", 60.0),
    ]
    running.run(listed, given, seconds=50, line=lines.append, method="fork")
    assert [line["outcome"] for line in lines] == ["too slow", "measured"]
    assert lines[0]["reason"] == "no end after 1 s" and lines[1]["limit"] < 49
    assert not multiprocessing.active_children()
    lines = taken(tmp_path, "hanging", "fine", seconds=0.5)
    assert [line["outcome"] for line in lines] == ["not reached", "not reached"]


def test_a_process_that_cannot_use_its_gpu_is_started_afresh(tmp_path: Path, monkeypatch):
    methods = []

    def in_process(measurement: Measurement, given: Given, method: str) -> dict[str, Any]:
        methods.append(method)
        return {"outcome": running.FORKED if method == "forkserver" else running.MEASURED}

    monkeypatch.setattr(running, "in_process", in_process)
    lines: list[dict[str, Any]] = []
    listed = [Measurement(name, f"{WORKS}:fine", 9) for name in "ab"]
    given = Given(tmp_path, "cpu", REHEARSAL)
    running.run(listed, given, seconds=60, line=lines.append)
    assert methods == ["forkserver", "spawn", "spawn"]
    assert [line["outcome"] for line in lines] == ["measured", "measured"]


def test_each_line_is_on_the_disk_when_its_measurement_ends(tmp_path: Path):
    output = running.Output(tmp_path / "lines.jsonl")
    for number in range(3):
        output.line({"measurement": str(number)})
        lines = (tmp_path / "lines.jsonl").read_text().splitlines()
        assert [json.loads(line)["measurement"] for line in lines] == [
            str(n) for n in range(number + 1)
        ]


def test_the_order_is_that_of_worth_and_has_all_that_is_asked_for():
    listed = order(["clipreid_vit_stage2", "clipreid_vit_stage1", "pcl_vit", "a", "b", "c"])
    names = [measurement.name for measurement in listed]
    assert names[:4] == ["machine", "tests", "stage2-vit-bf16", "maps-schp-bf16"]
    assert len(set(names)) == len(names) and sum("compiled" in name for name in names) == 1
    for part in ("stage1-vit", "stage1-rn50", "stage2-rn50", "stage2-olp"):
        assert {f"{part}-bf16", f"{part}-fp16"} <= {*names}, part
    assert {"pi-vl-vit-bf16", "pi-vl-rn50-bf16", "maps-solider-bf16", "maps-invpt-bf16",
            "evaluation", "reranking", "batches", "waits-vit-bf16"} <= {*names}  # fmt: skip
    assert [n for n in names if n.startswith("drift-")][0] == "drift-clipreid_vit_stage2"
    assert f"drift-{FIRST}" in [measurement.name for measurement in order([])]
    assert all(measurement.limit <= 110 for measurement in listed)

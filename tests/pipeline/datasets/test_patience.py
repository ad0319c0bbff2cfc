"""Naming rules of other people: none takes for ever, none ends in a traceback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets.layouts import patience, read_layout
from pipeline.datasets.layouts.own import read_own
from pipeline.datasets.layouts.patience import check_patience, expression
from pipeline.terminal.errors import ReidpipeError

ENDLESS = [r"(?P<pid>(a+)+)$", r"(?P<pid>(a|aa)+)$", r"(?P<pid>(.*a){25})b", r"(?P<pid>(a*)*)b"]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    for number in range(4):
        Image.new("RGB", (4, 8)).save(tmp_path / f"{'a' * 60}_{number}.jpg")
    return tmp_path


@pytest.mark.parametrize("rule", ENDLESS)
def test_a_rule_that_backtracks_without_bound_is_told(names: Path, rule: str, monkeypatch):
    monkeypatch.setattr(patience, "SECONDS", 0.4)
    started = time.monotonic()
    with pytest.raises(ReidpipeError, match="repeat inside a repeat"):
        read_own(names, rule=rule)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "rule",
    [
        r"(?P<pid>\d{99999999999})", "(" * 5000 + "(?P<pid>a)" + ")" * 5000, r"(?P<pid>a",
        r"(?P<pid>[z-a])", r"(?P<pid>a)\g<9>", "(?P<pid>a)(?<=a*)", "\ud800(?P<pid>a", "(?P<1>a)",
        "(?P<pid>a)**",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_told(rule: str):
    with pytest.raises(ReidpipeError, match="expected a regular expression"):
        expression(rule)


@pytest.mark.parametrize("rule", [r"(?P<pid>\d{9999999})", r"(?P<pid>(?:\d{9999}){9999})"])
def test_huge_repeats_fit_no_name(names: Path, rule: str):
    with pytest.raises(ReidpipeError, match="break the rule"):
        read_own(names, rule=rule)


def test_usual_rules_are_let_pass():
    check_patience(r"(?P<pid>\d+)_c(?P<camid>\d+)", [f"{n}_c1.jpg" for n in range(20000)])


def test_a_manifest_of_ones_own_is_tried_too(names: Path, tmp_path: Path, monkeypatch):
    from pipeline.datasets.catalogue import load_manifest

    monkeypatch.setattr(patience, "SECONDS", 0.4)
    market = load_manifest("market1501")
    (source, *_), layout = market.layouts[0].sources, market.layouts[0]
    own = layout.model_copy(
        update={
            "requires": (), "rule": ENDLESS[0], "membership": (), "viewpoints": (),
            "sources": (source.model_copy(update={"folder": ".", "rule": None}),),
        }
    )  # fmt: skip
    manifest = market.model_copy(update={"layouts": (own,), "file": str(tmp_path / "x.yaml")})
    with pytest.raises(ReidpipeError, match="repeat inside a repeat"):
        read_layout(names, manifest)

"""``--table``: stdout is the table alone."""

from __future__ import annotations

import csv
import io

import pytest

from pipeline.terminal.publishing import comma_separated, latex
from reid_train.classify.tables import publication
from reid_train.evaluation.spread import spread
from tests.cli.conftest import TRAIN, Console


def test_eval_prints_the_table_and_nothing_else(trained: Console):
    metrics = trained.json("eval", "baseline-tiny")
    told = trained("eval", "baseline-tiny", "--table", "latex")
    lines = told.stdout.splitlines()
    assert lines[0] == r"% \usepackage{booktabs}" and lines[-1] == r"\end{table}"
    assert f"${100 * metrics['mAP']:.1f}$" in told.stdout and "excluded same-camera" in told.stdout
    assert "nothing to do" in told.stderr and "metrics " in told.stderr
    text = trained("eval", "baseline-tiny", "--table", "csv").stdout
    heading, row = csv.DictReader(io.StringIO(text)).fieldnames, *csv.DictReader(io.StringIO(text))
    assert heading and heading[-1] == "protocol"
    assert float(row["mAP (%)"]) == pytest.approx(100 * metrics["mAP"], rel=1e-11)
    assert row["protocol"].startswith("protocol: folder standard")
    lines = trained("eval", "baseline-tiny", "--table", "markdown").stdout.splitlines()
    assert lines[1].startswith("| --- | ---: |") and lines[4].startswith("Retrieval of people.")


@pytest.mark.parametrize("command", ["eval", "run", "classify"])
def test_json_and_table_are_one_line_before_any_work(trained: Console, command: str):
    words = () if command == "eval" else ("x",)
    line = trained.mistake(command, *words, "--table", "csv", "--json")
    assert "found --json and --table csv; expected one of them" in line
    assert "'x' is not one of 'latex', 'markdown', 'csv'" in trained.mistake(
        command, *words, "--table", "x"
    )


def test_run_has_mean_deviation_and_best(trained: Console):
    words = ("run", "baseline-tiny", "--dataset", "folder", "--seed", "0-1", *TRAIN)
    told = trained(*words, "--device", "cpu", "--table", "latex")
    (row,) = [line for line in told.stdout.splitlines() if line.startswith("baseline-tiny & ")]
    assert row.count(r"\pm") == 4 and "recipe & dataset & seeds & mAP" in told.stdout
    assert "sample standard deviation over seeds" in told.stdout
    assert "±" in told.stderr and "making" not in told.stdout


def test_classification_table_says_split_and_shots():
    def row(recipe: str, shots: int | None, *values: float) -> dict:
        test = {"dataset": "pets", "classes": 37, "images": 3669}
        figures = {"base": spread(values), "new": spread([0.5])}
        return {
            "recipe": recipe, "dataset": "pets", "split": "base-new", "shots": shots,
            "seeds": list(range(len(values))), "figures": figures, "parameters": 8192,
            "share": 0.0, "tests": {"base": test},
        }  # fmt: skip

    table = publication([row("zero_shot", None, 0.9), row("coop", 16, 0.8, 0.7)])
    text = latex(table)
    assert r"zero\_shot & pets & -- & 1 & $\mathbf{90.0}$ & $\mathbf{50.0}$ & 8192 \\" in text
    assert r"coop & pets & 16 & 2 & $75.0 \pm 7.1$ & $\mathbf{50.0}$ & 8192 \\" in text
    assert "coop pets: split base-new, 16 images per class learnt from" in text
    rows = list(csv.reader(io.StringIO(comma_separated(table))))
    assert rows[2][:7] == ["coop", "pets", "16", "2", "75", "7.07106781187", "50"]
    assert "3669 images" in rows[1][-1]

"""Tables for a paper: what is printed is read back by the readers of their formats."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from typing import Any

import pytest

from pipeline.terminal.publishing import (
    FORMATS,
    Column,
    Table,
    comma_separated,
    latex,
    latex_text,
    markdown,
)

HOSTILE = (
    "a_b", "50 % of {x} & #1", r"\input{/etc/passwd}", "$x^2$ ~ <b>", "a|b*c*", "--top 3 --- x",
    "`code`", 'say "no", [twice]', "naïve café", "-3", "\\\\",
)  # fmt: skip


def spread(mean: float, std: float | None) -> dict[str, Any]:
    return {"mean": mean, "std": std, "n": 1, "values": [mean]}


def table(*names: str) -> Table:
    """Rows of one dataset: mAP 61.24, 61.21, 12.3, ... percent; Rank-1 without a deviation."""
    figures = [(0.6124, 0.004), (0.6121, 0.0123), (0.123, None)]
    rows = [
        {"run": name, "dataset": "d", "seeds": 3, "mAP": spread(*figures[n % 3]), "Rank-1": 0.5 + n}
        for n, name in enumerate(names)
    ]
    columns = [
        Column("run"),
        Column("seeds", "count"),
        Column("mAP", "percent", best=True),
        Column("Rank-1", "percent", best=True),
    ]
    return Table(columns, rows, ["d standard"] * len(rows), compared=("dataset",), about="Results")


def test_latex_has_the_mean_the_deviation_and_every_best_in_bold():
    lines = latex(table("a", "b", "c")).splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    # 61.24 and 61.21 are one number to the digit shown: both are the best.
    assert body == [
        r"a & 3 & $\mathbf{61.2} \pm 0.4$ & $50.0$ \\",
        r"b & 3 & $\mathbf{61.2} \pm 1.2$ & $150.0$ \\",
        r"c & 3 & $12.3$ & $\mathbf{250.0}$ \\",
    ]
    assert r"\begin{tabular}{lrrr}" in lines and r"\toprule" in lines
    caption = next(line for line in lines if line.startswith(r"\caption"))
    assert "Results. Protocol: d standard. $\\pm$ is the sample standard deviation" in caption
    assert "Bold: the best of each column of the same dataset" in caption


def test_nothing_is_best_of_another_question_or_alone():
    both = table("a", "b")
    other = Table(
        both.columns,
        [both.rows[0], {**both.rows[1], "dataset": "e"}],
        ["d standard", "e standard"],
        compared=("dataset",),
    )
    assert r"\mathbf" not in latex(other) and "Bold" not in other.caption
    assert other.caption.startswith("a: d standard. b: e standard.")
    assert r"\mathbf" not in latex(table("a")) and "**" not in markdown(table("a"))


def test_what_is_missing_is_a_dash_and_an_empty_field():
    rows = [{"run": "a", "mAP": None}, {"run": None, "mAP": 0.5}]
    some = Table([Column("run"), Column("mAP", "percent", best=True)], rows, ["p", "p"])
    assert r"a & -- \\" in latex(some) and "| a | - |" in markdown(some)
    assert comma_separated(some).splitlines()[1:] == ["a,,p", ",50,p"]


def test_comma_separated_keeps_every_digit_and_the_protocol():
    text = comma_separated(table('x, "y"\nz', "b"))
    assert text.count("\r\n") == 3 and text.endswith("\r\n")
    heading, first, second = csv.reader(io.StringIO(text, newline=""))
    assert heading == ["run", "seeds", "mAP mean (%)", "mAP std (%)", "Rank-1 (%)", "protocol"]
    assert first == ['x, "y" z', "3", "61.24", "0.4", "50", "d standard"]
    assert float(second[3]) == 1.23


def test_pipes_and_markup_stay_text_in_markdown():
    text = markdown(table(*HOSTILE))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(HOSTILE)
    for name, row in zip(HOSTILE, rows[2:], strict=True):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", row)
        assert len(cells) == 6, row
        assert re.sub(r"\\(.)", r"\1", row.split(" | ")[0].removeprefix("| ")) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_the_same_text_after_latex(name: str):
    reader = pytest.importorskip("pylatexenc.latex2text", reason="pylatexenc is not installed")
    read = reader.LatexNodes2Text(strict_latex_spaces=True).latex_to_text(latex_text(name))
    # Two primes are quotation marks; the reader has a circumflex of its own.
    same = {"''": '"', "”": '"', "ˆ": "^", "‘": "`"}
    for theirs, ours in same.items():
        read = read.replace(theirs, ours)
    assert read == name


def test_the_latex_table_is_read_with_all_its_rows():
    walker = pytest.importorskip("pylatexenc.latexwalker", reason="pylatexenc is not installed")
    nodes, _, _ = walker.LatexWalker(
        latex(table(*HOSTILE)), tolerant_parsing=False
    ).get_latex_nodes()
    (outer,) = [node for node in nodes if node.isNodeType(walker.LatexEnvironmentNode)]
    (inner,) = [n for n in outer.nodelist if n.isNodeType(walker.LatexEnvironmentNode)]
    assert (outer.environmentname, inner.environmentname) == ("table", "tabular")
    verbatim = inner.latex_verbatim()
    assert verbatim.count(r"\\" + "\n") == 1 + len(HOSTILE)
    macros = {n.macroname for n in inner.nodelist if n.isNodeType(walker.LatexMacroNode)}
    assert "input" not in macros and {"toprule", "midrule", "bottomrule"} <= macros


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_sets_the_table(tmp_path):
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\n\\end{document}\n"
    (tmp_path / "t.tex").write_text(page % latex(table(*HOSTILE)), encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]


def test_control_characters_reach_no_format():
    for write in FORMATS.values():
        text = write(table("a\x1b[31mred\x07", "b\r\nc")).replace("\r\n", "\n")
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)

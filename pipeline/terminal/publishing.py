"""Tables for a paper: LaTeX (booktabs), Markdown, CSV, from the same rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.terminal.printable import printable

Kind = Literal["text", "count", "percent"]


@dataclass(frozen=True)
class Column:
    """name: heading, and the key of a row's value. kind: ``text``; ``count``, a whole number;
    ``percent``, a fraction (0..1, or beyond where it is a difference) or a mapping with ``mean``
    and ``std`` of fractions (std None for one value). best: whether the highest is set in bold.
    """

    name: str
    kind: Kind = "text"
    best: bool = False


@dataclass(frozen=True)
class Table:
    """What is printed. rows: values by column; None where there is none. protocols: per row what
    its numbers depend on. compared: columns that rows must share to be compared for the best
    (dataset: another one is another question). about: sentences of the caption before the rest.
    """

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    protocols: Sequence[str]
    compared: Sequence[str] = ()
    about: str = ""

    @property
    def caption(self) -> str:
        """What stands in the table, its protocols, and what ± and bold mean."""
        told = [self.about.rstrip(".")] if self.about else []
        told += self._conditions()
        figures = [row.get(c.name) for row in self.rows for c in self.columns]
        if any(isinstance(f, Mapping) and f["std"] is not None for f in figures):
            told.append("± is the sample standard deviation over seeds")
        if any(self.best(place) for place in range(len(self.rows))):
            within = f" of the same {' and '.join(self.compared)}" if self.compared else ""
            told.append(f"Bold: the best of each column{within}, to the digit shown")
        return "".join(f"{sentence}. " for sentence in told).rstrip()

    def _conditions(self) -> list[str]:
        """The protocols, each once; where there are several, the rows that they are of."""
        rows: dict[str, list[str]] = {}
        for row, line in zip(self.rows, self.protocols, strict=True):
            names = [str(row.get(c.name)) for c in self.columns if c.kind == "text"]
            told = line.removeprefix("protocol: ").rstrip(".")
            rows.setdefault(told, []).append(" ".join(name for name in names if name != "None"))
        if len(rows) == 1:
            return [f"Protocol: {line}" for line in rows]
        return [f"{', '.join(names)}: {line}" for line, names in rows.items()]

    def best(self, place: int) -> set[str]:
        """Columns in which the row at ``place`` has the best of the rows it is compared with, ties
        included; none where it is compared with nothing.
        """
        row = self.rows[place]
        rivals = [
            other
            for other in self.rows
            if all(other.get(name) == row.get(name) for name in self.compared)
        ]
        found = set()
        for column in self.columns:
            shown = [_rounded(other.get(column.name)) for other in rivals] if column.best else []
            known = [value for value in shown if value is not None]
            if len(known) > 1 and _rounded(row.get(column.name)) == max(known):
                found.add(column.name)
        return found


def latex(table: Table) -> str:
    """A ``table`` environment for the package booktabs, text escaped, with its caption."""
    columns = table.columns
    form = "".join("l" if column.kind == "text" else "r" for column in columns)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex_text(table.caption)}}}",
        rf"\begin{{tabular}}{{{form}}}",
        r"\toprule",
        " & ".join(latex_text(column.name + _unit(column)) for column in columns) + r" \\",
        r"\midrule",
    ]
    for place, row in enumerate(table.rows):
        bold = table.best(place)
        cells = [_latex_cell(row.get(c.name), c, c.name in bold) for c in columns]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _latex_cell(value: Any, column: Column, bold: bool) -> str:
    if value is None:
        return "--"
    if column.kind != "percent":
        return latex_text(str(value))
    mean, deviation = _figure(value)
    number = rf"\mathbf{{{mean}}}" if bold else mean
    return f"${number}$" if deviation is None else rf"${number} \pm {deviation}$"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "±": r"$\pm$", "×": r"$\times$",
}  # fmt: skip


def latex_text(text: str) -> str:
    """``text`` as LaTeX shows it letter by letter, on one line: what has a meaning there is
    escaped, and two hyphens do not become a dash.
    """
    escaped = "".join(_LATEX.get(letter, letter) for letter in _line(text))
    return escaped.replace("--", "-{}-").replace("--", "-{}-")


def markdown(table: Table) -> str:
    """A table of pipes (GitHub's), its caption below."""
    columns = table.columns
    rule = ["---" if column.kind == "text" else "---:" for column in columns]
    lines = [[_markdown_text(c.name + _unit(c)) for c in columns], rule]
    for place, row in enumerate(table.rows):
        bold = table.best(place)
        lines.append([_markdown_cell(row.get(c.name), c, c.name in bold) for c in columns])
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{rows}\n\n{_markdown_text(table.caption)}"


def _markdown_cell(value: Any, column: Column, bold: bool) -> str:
    if value is None:
        return "-"
    if column.kind != "percent":
        return _markdown_text(str(value))
    mean, deviation = _figure(value)
    number = f"**{mean}**" if bold else mean
    return number if deviation is None else f"{number} ± {deviation}"


def _markdown_text(text: str) -> str:
    """Letter by letter: nothing of it is markup."""
    marked = set("\\`*_[]<>|#~$&")
    return "".join(f"\\{letter}" if letter in marked else letter for letter in _line(text))


def comma_separated(table: Table) -> str:
    """RFC 4180: numbers in full, in percent as the headings say; mean and standard deviation in
    columns of their own; the protocol of each row last.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    spread = {
        column.name
        for column in table.columns
        if any(isinstance(row.get(column.name), Mapping) for row in table.rows)
    }
    heading = []
    for column in table.columns:
        heading.append(f"{column.name}{' mean' if column.name in spread else ''}{_unit(column)}")
        if column.name in spread:
            heading.append(f"{column.name} std{_unit(column)}")
    writer.writerow([*heading, "protocol"])
    for row, protocol in zip(table.rows, table.protocols, strict=True):
        cells: list[str] = []
        for column in table.columns:
            cells += _raw(row.get(column.name), column, column.name in spread)
        writer.writerow([*cells, _line(protocol)])
    return stream.getvalue()


def _raw(value: Any, column: Column, spread: bool) -> list[str]:
    if value is None:
        return [""] * (1 + spread)
    if column.kind != "percent":
        return [_line(str(value))]
    figures = [value["mean"], value["std"]] if isinstance(value, Mapping) else [value]
    figures += [None] * (1 + spread - len(figures))
    return ["" if figure is None else f"{100 * figure:.12g}" for figure in figures]


def _unit(column: Column) -> str:
    return " (%)" if column.kind == "percent" else ""


def _figure(value: Any) -> tuple[str, str | None]:
    """Mean and deviation in percent, to the digit shown."""
    if not isinstance(value, Mapping):
        return f"{100 * value:.1f}", None
    deviation = value["std"]
    return f"{100 * value['mean']:.1f}", None if deviation is None else f"{100 * deviation:.1f}"


def _rounded(value: Any) -> float | None:
    return None if value is None else float(_figure(value)[0])


def _line(text: str) -> str:
    return " ".join(printable(text).split())


FORMATS: dict[str, Callable[[Table], str]] = {
    "latex": latex,
    "markdown": markdown,
    "csv": comma_separated,
}

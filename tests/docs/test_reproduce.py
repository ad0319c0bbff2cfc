"""docs/reproduce.md against what the recipes expect, and its commands against the command line."""

from __future__ import annotations

import re
import shlex
from collections import Counter

import click
import pytest

import cli
from docs.building.reading_list import SECTIONS
from docs.building.reproduce import HEADINGS, PAGE, Row, cells, expected_of, page, rows
from parsing_models.parsers.catalogue import CATALOGUE
from pipeline.datasets.catalogue import load_manifest
from reid_train.classify.recipe import list_learners, load_learner
from reid_train.recipe.loading import list_recipes, load_recipe

ROWS = [row for section in SECTIONS for row in rows(section)]
COMMANDS = sorted({command for row in ROWS for command in row.commands})


def written() -> list[list[str]]:
    """The lines of the page's tables of results, cell by cell."""
    lines = [line.strip("| ").split(" | ") for line in table_lines()]
    return [line for line in lines if line[0].startswith("`") and "`reidpipe " in line[1]]


def table_lines() -> list[str]:
    return [li for li in PAGE.read_text(encoding="utf-8").splitlines() if li.startswith("| ")]


def test_every_expected_result_is_in_one_table():
    shown = Counter((row.recipe, row.given.model_dump_json()) for row in ROWS)
    expected = Counter(
        (name, given.model_dump_json())
        for name in (*list_recipes(), *list_learners())
        for given in expected_of(name)
    )
    assert shown == expected


def test_the_page_says_what_the_recipes_expect():
    """Recipe, command, expected value and source of every row; the costs are the slow test's."""
    told = [tuple(line[:4]) for line in written()]
    assert told == [tuple(cells(row, ("", ""))[:4]) for row in ROWS]
    assert all(cell for line in told for cell in line)
    assert " | ".join(HEADINGS) in "\n".join(table_lines())


def test_a_row_is_written_as_a_person_would_type_it():
    row = next(r for r in ROWS if r.recipe == "resnet50-triplet" and "v1-strict" in r.given.train)
    assert row.commands == ("reidpipe run resnet50-triplet --dataset msmt17:v1-strict --seed 0",)
    assert row.expected == "mAP 57.0, Rank-1 78.9"
    assert row.conditions.startswith("trained on `msmt17:v1-strict`; best of every fifth epoch")


def test_results_that_run_does_not_print_are_evaluated_afterwards():
    reranked = next(row for row in ROWS if getattr(row.given, "rerank", None))
    course = next(row for row in ROWS if row.recipe == "bignet")
    assert [c.split(" --")[0] for c in reranked.commands] == [
        "reidpipe train clip-reid-vit-sie-olp", "reidpipe eval",
    ]  # fmt: skip
    assert reranked.commands[1].endswith("--rerank") and "ours: 20, 6, 0.3" in reranked.conditions
    assert course.commands[1] == "reidpipe eval --protocol course"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_could_be_typed(command: str):
    program, name, *words = shlex.split(command)
    group = click.Context(cli.main)
    found = cli.main.get_command(group, name)
    assert program == "reidpipe" and found is not None
    given = found.make_context(name, words, parent=group).params
    for recipe in given.get("recipes") or [given["recipe"]] if name in ("run", "train") else ():
        load_recipe(recipe, dict(text.split("=", 1) for text in given["settings"]))
    if name == "classify":
        for recipe in given["recipes"]:
            load_learner(recipe, given["split"])
    datasets = given.get("datasets") or [given.get("dataset") or "mannequins"]
    for dataset in (*datasets, *",".join(given.get("targets") or ()).split(",")):
        assert not dataset or load_manifest(dataset)
    assert set(given.get("parsers") or ()) <= set(CATALOGUE)


def test_unmarked_numbers_do_not_stand_in_the_sections():
    """A figure that stands in a sentence has its source beside it."""
    for section in SECTIONS:
        if re.search(r"\d\d\.\d", section.text):
            assert re.search(r"README|[Ii]ssue \d+", section.text), section.title


def test_two_decimals_stay_two():
    row = next(r for r in ROWS if r.recipe == "cocoop" and "base" in r.expected)
    assert isinstance(row, Row) and row.expected == "base 75.98, new 70.43, H 73.10"


@pytest.mark.slow
def test_the_page_is_what_the_script_writes():
    assert PAGE.read_text(encoding="utf-8") == page(), "type python -m docs.building.reproduce"

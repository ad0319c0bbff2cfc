"""``recipes --for``: what suits whom, on a terminal and as JSON."""

from __future__ import annotations

from tests.cli.conftest import Console


def test_recipes_for_own_images(console: Console):
    text = console("recipes", "--for", "own").stdout
    header, _, *lines = text.splitlines()
    assert header.split() == ["recipe", "people", "machine", "start", "about"]
    rows = console.json("recipes", "--for", "own")
    assert [line.split()[0] for line in lines] == [row["recipe"] for row in rows]
    tiny = next(row for row in rows if row["recipe"] == "baseline-tiny")
    assert tiny["people"] == "16-500" and "two CPU cores" in tiny["machine"]
    assert not console.root.exists()  # looking changes nothing


def test_wrong_words_are_told(console: Console):
    assert "'label-free'" in console("recipes", "--for", "others", code=2).stderr
    for word in ("slicenet2", "--parameters"):
        line = console.mistake("recipes", "--for", "own", word)
        assert f"beside {word}" in line and line.endswith("type reidpipe recipes --for own")

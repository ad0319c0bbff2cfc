"""The parser ``exact`` and options of maps, as typed: what is stored, what is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parsing_models import load_parser
from parsing_models.commands import maps_step, parsers_of
from parsing_models.parsers.exact import GRID, label_set_of, read
from parsing_models.parsers.rewriting import damage
from parsing_models.parsers.typed import amounts, damaged_name, typed
from pipeline.artifacts.steps import Job, Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.labels.maps import LabelMapReader
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError

MAP = np.array([[5, 0], [9, 255]], np.uint8)
PEOPLE = Step("index", {"dataset": "mannequins"})


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(Workspace(tmp_path), as_json=True)


def indexed(folder: Path, **labels: np.ndarray | None) -> Path:
    """An index of images of 2x2 pixels with these label maps."""
    folder.mkdir()
    rows = []
    for name, label in labels.items():
        if label is not None:
            Image.fromarray(label).save(folder / f"{name}-truth.png")
        extra = {"label_path": "" if label is None else f"{name}-truth.png"}
        rows.append(ImageRow(name, name, "train", 1, 0, None, "", None, 2, 2, "ab" * 32, extra))
    write_index(folder, Index("drawn", folder, rows))
    return folder


def job(folder: Path, params: dict[str, object], **inputs: Path) -> Job:
    folder.mkdir()
    return Job(folder, params, inputs, folder)


def test_maps_are_the_datasets_own_at_the_size_of_all_maps(tmp_path: Path):
    index = indexed(tmp_path / "index", a=MAP, b=None)
    summary = read(job(tmp_path / "maps", {"truth": "lip"}, index=index))
    assert summary["images"] == 1 and summary["failed"] == ["b"]
    assert summary["no_person"] == [] and summary["one_class"] == []
    reader = LabelMapReader(tmp_path / "maps")
    label, sure = reader["a"]
    assert reader.label_set.name == "lip" and label.shape == GRID
    known = np.array([[5, 0], [9, 0]], np.uint8)
    assert np.array_equal(label, known.repeat(128, 0).repeat(64, 1))
    # What nobody annotated is background, and nobody is sure of it.
    assert sure[:, :64].min() == 1 and sure[:128].min() == 1 and sure[128:, 64:].max() == 0
    assert reader.source_size("a") == (2, 2) and reader.source_digest("a") == "ab" * 16
    assert reader.attributes["model"] == "exact"


def test_a_dataset_without_maps_and_maps_of_another_size_are_refused(tmp_path: Path):
    index = indexed(tmp_path / "index", a=None)
    with pytest.raises(ReidpipeError, match="found no label maps in dataset 'drawn'"):
        read(job(tmp_path / "none", {"truth": "lip"}, index=index))
    turned = indexed(tmp_path / "turned", a=np.zeros((2, 3), np.uint8))
    with pytest.raises(ReidpipeError, match="expected the same size"):
        read(job(tmp_path / "size", {"truth": "lip"}, index=turned))


def test_damaged_maps_keep_keys_and_confidence_and_say_what_they_are(tmp_path: Path):
    index = indexed(tmp_path / "index", a=MAP, b=np.full((2, 2), 14, np.uint8))
    read(job(tmp_path / "maps", {"truth": "lip"}, index=index))
    params = {"model": "exact:exchanged=1", "amounts": {"exchanged": 1.0}}
    summary = damage(job(tmp_path / "damaged", params, maps=tmp_path / "maps"))
    before, after = LabelMapReader(tmp_path / "maps"), LabelMapReader(tmp_path / "damaged")
    assert list(after) == ["a", "b"] and after.attributes["model"] == "exact:exchanged=1"
    # No side is in a; all of b is a left arm.
    assert np.array_equal(after["a"][0], before["a"][0]) and (after["b"][0] == 15).all()
    assert np.array_equal(after["a"][1], before["a"][1])
    assert summary == {"images": 2, "equal": 0.5}


def test_one_line_may_name_a_parser_twice(terminal: Terminal):
    kinds = ["exact", "exact:flipped=0.3:borders=2", "schp-tiny:centre_person=true:missing=0.5"]
    label_maps = parsers_of(terminal, kinds)
    plain, worse, other = (label_maps(PEOPLE, kind) for kind in kinds)
    assert (plain.name, plain.params["truth"]) == ("exact", "lip")
    assert worse.name == "damaged" and worse.inputs["maps"].key == plain.key
    # In the order in which it is done, whatever was typed first.
    assert worse.params["model"] == "exact:borders=2:flipped=0.3"
    assert worse.params["amounts"] == {"borders": 2, "flipped": 0.3}
    assert other.name == "damaged" and other.inputs["maps"].name == "centred"
    typed_apart = maps_step(terminal, PEOPLE, "exact", settings=("borders=2", "flipped=0.3"))
    assert typed_apart.key == worse.key
    assert maps_step(terminal, PEOPLE, "exact:flipped=0").key == plain.key
    settings = [(kinds[1], "missing=1")]
    both = parsers_of(terminal, kinds, settings=settings)(PEOPLE, kinds[1])
    assert both.params["amounts"] == {"missing": 1.0, "borders": 2, "flipped": 0.3}


def test_names_with_options():
    assert typed("exact") == ("exact", ())
    assert typed("exact:a=1:b=2") == ("exact", ("a=1", "b=2"))
    assert typed("hf:owner/name") == ("hf:owner/name", ())
    assert amounts({"flipped": 1, "borders": 0, "missing": 0.0, "other": 3}) == {"flipped": 1.0}
    assert damaged_name("exact", {"borders": 2, "flipped": 0.25}) == "exact:borders=2:flipped=0.25"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("exact:flipped=2", "flipped=2 for parser 'exact'; expected a share from 0 to 1"),
        ("exact:borders=1.5", "borders=1.5 .*whole pixels from 0 to 32"),
        ("exact:fliped=0.1", "did you mean 'flipped'"),
        ("exact:flipped", "found option 'flipped' for parser 'exact'; expected NAME=VALUE"),
        ("exact:label_set=atr", "label_set=atr .*on mannequins, whose maps are in lip"),
        ("exact:label_set=lap", "found label set 'lap' .did you mean 'lip'"),
        ("exakt:flipped=0.1", "found parser 'exakt' .did you mean 'exact'"),
    ],
)
def test_mistakes_behind_a_name(terminal: Terminal, kind: str, words: str):
    with pytest.raises(ReidpipeError, match=words):
        maps_step(terminal, PEOPLE, kind)


def test_options_of_networks_are_not_passed_over(terminal: Terminal, tmp_path: Path):
    for given, words in (
        ({"flip": True}, "--flip"),
        ({"scales": (0.5, 1.0)}, "--scales"),
        ({"precision": "bf16"}, "--precision"),
        ({"weights": tmp_path}, "--weights"),
    ):
        with pytest.raises(ReidpipeError, match=f"found {words} for parser 'exact'"):
            maps_step(terminal, PEOPLE, "exact", **given)  # type: ignore[arg-type]
    with pytest.raises(ReidpipeError, match="looks at no image"):
        load_parser("exact")


def test_somebody_must_say_which_labels_the_maps_have():
    assert label_set_of("folder", None, "ccp") == "ccp" and label_set_of("x", "lip", None) == "lip"
    with pytest.raises(ReidpipeError, match="--parsing-option exact label_set=lip"):
        label_set_of("folder", None, None)

"""Recipes as a user writes and changes them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.loading import from_plain, list_recipes, load_recipe
from tests.conftest import PROJECT

PUBLISHED = {
    "baseline-rn50", "baseline-vit", "baseline-tiny", "bignet", "bignet-aug", "slicenet1",
    "slicenet2", "bignet-plus", "slicenet1-plus", "slicenet2-plus",
}  # fmt: skip

ON_CELLS = "[{loss: part-alignment, on: [dense, cells, part_texts]}]"


def test_all_are_there():
    assert set(list_recipes()) >= PUBLISHED


@pytest.mark.parametrize("name", list_recipes())
def test_each_loads_and_its_plain_form_is_the_same_recipe(name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.summary
    plain = recipe.plain()
    assert json.loads(json.dumps(plain)) == plain
    assert from_plain(plain).plain() == plain
    assert not plain.keys() & {"summary", "citation", "expected"}, "they would change cache keys"


def test_the_col780_recipes_are_the_published_ones():
    for name, epochs, copies, trunk in (
        ("bignet", 250, False, "bignet"),
        ("bignet-aug", 250, True, "bignet"),
        ("slicenet1", 200, True, "slicenet1"),
        ("slicenet2", 200, True, "slicenet2"),
    ):
        recipe = load_recipe(name)
        stage: Any = recipe.stages[0]
        assert (stage.epochs, recipe.model.trunk) == (epochs, trunk)
        assert (stage.data.kind, stage.data.batch) == ("shuffled", 16)
        assert stage.data.flipped_copies is copies
        assert stage.data.augment.model_dump() == type(stage.data.augment)().model_dump()
        optimiser = stage.optimiser
        assert (optimiser.kind, optimiser.lr, optimiser.weight_decay) == ("adam", 1e-3, 0.0)
        assert stage.schedule.kind == "constant" and recipe.precision == "fp32"
        assert recipe.input.size == (128, 48) and recipe.input.std[1] == 0.274686
        assert recipe.model.heads["identity"].kind == "cosine-softmax"
        assert [(x.loss, x.weight, x.options) for x in stage.losses] == [("cross-entropy", 1.0, {})]


@pytest.mark.parametrize(
    ("name", "lr", "decay", "epochs", "milestones", "factor"),
    [
        ("baseline-vit", 5e-6, 1e-4, 60, (30, 50), 0.1),
        ("baseline-rn50", 3.5e-4, 5e-4, 120, (40, 70), 0.01),
    ],
)
def test_the_baselines_are_clip_reid_s(name, lr, decay, epochs, milestones, factor):
    recipe = load_recipe(name)
    stage: Any = recipe.stages[0]
    assert (stage.data.ids, stage.data.images_per_id, stage.epochs) == (16, 4, epochs)
    assert (stage.optimiser.lr, stage.optimiser.weight_decay) == (lr, decay)
    assert stage.optimiser.bias_lr == 2.0 and stage.optimiser.bias_weight_decay is None
    schedule = stage.schedule
    assert (schedule.milestones, schedule.warmup_factor) == (milestones, factor)
    assert (schedule.warmup_epochs, schedule.gamma, schedule.first_epoch) == (10, 0.1, 1)
    augment = stage.data.augment
    assert (augment.flip, augment.pad, augment.erase, augment.erase_fill) == (0.5, 10, 0.5, "noise")
    assert [(loss.loss, loss.on, loss.weight) for loss in stage.losses] == [
        ("cross-entropy", "identity", 1.0),
        ("cross-entropy", "identity_projected", 1.0),
        ("triplet", "last", 1.0),
        ("triplet", "feature", 1.0),
        ("triplet", "projected", 1.0),
    ]
    assert (recipe.input.train_filter, recipe.input.test_filter) == ("bicubic", "bilinear")


@pytest.mark.parametrize(
    ("path", "text", "read"),
    [
        ("stages.0.epochs", "3", lambda r: r.stages[0].epochs == 3),
        ("stages.image.epochs", "3", lambda r: r.stages[0].epochs == 3),
        ("stages.0.optimiser.lr", "1e-4", lambda r: r.stages[0].optimiser.lr == 1e-4),
        ("stages.0.data.augment.flip", "0", lambda r: r.stages[0].data.augment.flip == 0),
        ("stages.0.losses.1.options.margin", "null",
         lambda r: r.stages[0].losses[1].options == {"margin": None}),
        ("model.options.dim", "64", lambda r: r.model.options == {"dim": 64}),
        ("model.heads.identity.on", "global", lambda r: r.model.heads["identity"].on == "global"),
        ("input.size", "[64, 32]", lambda r: r.input.size == (64, 32)),
        ("stages.0.schedule", "{kind: constant}",
         lambda r: r.stages[0].schedule.kind == "constant"),
        ("stages.0.losses.0", "{loss: triplet, on: global}",
         lambda r: r.stages[0].losses[0].on == "global"),
        ("precision", "bf16", lambda r: r.precision == "bf16"),
        ("test.flip", "true", lambda r: r.test.flip is True),
    ],
)  # fmt: skip
def test_each_kind_of_override(path, text, read):
    assert not read(load_recipe("baseline-tiny"))
    assert read(load_recipe("baseline-tiny", {path: text}))


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("stages.0.epoch", "3", r"'stages\.0\.epoch' \(did you mean 'stages\.0\.epochs'\?\)"),
        ("stages.0.optimizer.lr", "3", r"did you mean 'stages\.0\.optimiser'\?"),
        ("stages.0.data.augment.filp", "1", r"did you mean 'stages\.0\.data\.augment\.flip'\?"),
        ("stages.0.losses.0.wieght", "1", r"did you mean 'stages\.0\.losses\.0\.weight'\?"),
        ("stages.0.schedule.raise", "1", r"did you mean 'stages\.0\.schedule\.rise'\?"),
        ("model.heads.identity.knd", "x", r"did you mean 'model\.heads\.identity\.kind'\?"),
        ("seed", "1", "unknown key 'seed'"),
        ("stages.0.epochs", "many", r"found 'many' for stages\.0\.epochs"),
        ("stages.0.epochs", "0", r"found 0 for stages\.0\.epochs; expected: .*greater than"),
        ("stages.0.epochs", "true", r"found True for stages\.0\.epochs; expected: neither true"),
        ("stages.0.clip", "false", r"found False for stages\.0\.clip; expected: neither true"),
        ("input.std", "[0,1,1]", r"found 0 for input\.std\.0; expected: .*greater than 0"),
        ("stages.0.data.augment.flip", "2", r"found 2 for stages\.0\.data\.augment\.flip"),
        ("stages.0.schedule.kind", "cosin", "cosin.*'cosine'"),
        ("stages.3.epochs", "1", r"found 'stages\.3'; expected a number from 0 to 0 or a name"),
        ("stages.0.losses", "[]", r"found \[\] for stages\.0\.losses"),
        ("input.size", "[a", "expected a YAML value"),
        ("precision", "fp8", "expected: Input should be 'auto', 'fp32', 'bf16', 'fp16' or 'fp64'"),
    ],
)
def test_mistakes_are_one_line_that_names_the_place(path, text, message):
    with pytest.raises(ReidpipeError, match=message) as error:
        load_recipe("baseline-tiny", {path: text})
    assert "\n" not in str(error.value)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ReidpipeError, match="did you mean 'baseline-tiny'"):
        load_recipe("baseline-tny")


def test_a_file_of_one_s_own_on_a_base(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: baseline-tiny\nsummary: mine\nmodel: {options: {dim: 32}}\n"
        "set: {stages.0.epochs: 2}\n"
    )
    recipe = load_recipe(file)
    assert (recipe.name, recipe.summary, recipe.stages[0].epochs) == ("mine", "mine", 2)
    assert recipe.model.trunk == "tiny" and recipe.model.options == {"dim": 32}
    beside = tmp_path / "other.yml"
    beside.write_text("base: mine.yaml\nset: {stages.image.epochs: 5}\n")
    assert load_recipe(beside).stages[0].epochs == 5


def test_another_kind_replaces_the_whole_part(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: baseline-vit\nmodel: {heads: {identity: {kind: linear, on: last}}}\n")
    recipe = load_recipe(file)
    assert recipe.model.heads["identity"].on == "last"
    assert recipe.model.heads["identity_projected"].on == "projected"


def test_files_that_are_no_recipes(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ReidpipeError, match="each other's base"):
        load_recipe(file)
    for text, message in (("[1]", "no mapping"), ("a: [", "cannot be read"), ("", "no mapping")):
        file.write_text(text)
        with pytest.raises(ReidpipeError, match=message) as error:
            load_recipe(file)
        assert "\n" not in str(error.value)
    with pytest.raises(ReidpipeError, match=r"found recipe '.*nope\.yaml'"):
        load_recipe(tmp_path / "nope.yaml")
    file.write_text("base: baseline-tiny\nmodel: {trnk: tiny}\n")
    with pytest.raises(ReidpipeError, match=r"did you mean 'model\.trunk'"):
        load_recipe(file)


def test_stages_need_names_of_their_own(tmp_path):
    stage = load_recipe("baseline-tiny").plain()["stages"][0]
    with pytest.raises(ReidpipeError, match="names of their own"):
        from_plain({**load_recipe("baseline-tiny").plain(), "stages": [stage, stage]})


def test_recipes_need_no_torch():
    code = (
        "import sys; from reid_train.recipe.loading import load_recipe;"
        "load_recipe('bignet').plain();"
        "assert not {'torch', 'open_clip', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("pi-vl-tiny", {"stages.part-prompts.data.parts": "false"}, "data.parts=true"),
        ("pi-vl-tiny", {"model.text.parts": "none"}, "model.text.parts=identity"),
        ("clip-reid-tiny", {"stages.image.losses": ON_CELLS}, "model.text.parts=identity"),
    ],
)
def test_parts_that_losses_read_are_there(name, setting, message):
    with pytest.raises(ReidpipeError, match="parts that do not fit together.*need .*" + message):
        load_recipe(name, setting)


def test_rows_of_parts_need_label_maps():
    assert not load_recipe("clip-reid-tiny").reads_maps
    assert load_recipe("clip-reid-tiny", {"model.text.parts": "identity"}).reads_maps

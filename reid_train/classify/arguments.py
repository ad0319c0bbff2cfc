"""What is typed for ``classify``: datasets as classes, and options that would act on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.catalogue import is_file, load_manifest, manifest_files
from pipeline.datasets.sources import GENERATED, index_step
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.classify.recipe import LearnerRecipe, is_learnt
from reid_train.classify.steps import Classes
from reid_train.data.class_rows import CAPTION
from reid_train.recipe.combinations import read_names

OWN = "classes"
VARIANTS = ("imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r")
PHOTO = "a photo of a {}."
# How the values of an attribute of generated people are said after "a photo of a".
WORDINGS = {
    "upper_colour": "person wearing a {} top",
    "lower_colour": "person wearing {} trousers",
    "shoes_colour": "person wearing {} shoes",
    "hat": "person wearing a {}",
    "bag": "person carrying a {}",
    CAPTION: "{}",
}
# What a learner's file says itself.
IN_FILE = ("n_ctx", "class_specific", "depth")


def read_targets(split: str, targets: Sequence[str], datasets: Sequence[str]) -> tuple[str, ...]:
    """The datasets a learner of ``split`` is tested on besides its own."""
    if targets and split not in ("cross", "domain"):
        raise ReidpipeError(
            f"found --target {targets[0]} with --split {split}; expected it with cross alone; "
            "type --split cross"
        )
    if split == "cross" and not targets:
        raise ReidpipeError(
            f"found --split cross and no dataset to test {datasets[0]}'s learner on; expected one "
            "or more; type --target oxford_pets"
        )
    if split == "domain" and tuple(datasets) != ("imagenet",):
        raise ReidpipeError(
            f"found --split domain of {', '.join(datasets)}; expected imagenet, whose variants "
            "they are; type --dataset imagenet"
        )
    given = targets or (VARIANTS if split == "domain" else ())
    return read_names(given, "--target") if given else ()


def check_file(file: Path | None, recipes: Sequence[LearnerRecipe]) -> None:
    """Raise ReidpipeError for a learner's file that is not there or of none of the recipes."""
    if file is None:
        return
    if not file.is_file():
        raise ReidpipeError(f"found no file {file}; expected a learner's; type --learner FILE")
    if len(recipes) > 1 or recipes[0].learner == "zero-shot":
        raise ReidpipeError(
            f"found --learner for {', '.join(recipe.name for recipe in recipes)}; expected the one "
            "recipe it was trained by; type reidpipe classify coop --learner FILE"
        )


def check_conflicts(
    *,
    settings: Sequence[tuple[str, str]],
    pretrained: str | None,
    file: Path | None,
    speed: bool,
    targets: Sequence[str],
) -> None:
    """Raise ReidpipeError for the first of two options that contradict each other."""
    for key, value in settings:
        if key in IN_FILE and file is not None:
            raise ReidpipeError(
                f"found --set {key}={value} with --learner {file}, whose numbers say it; expected "
                "one of them; leave it out"
            )
        if key == "pretrained" and pretrained is not None:
            raise ReidpipeError(
                f"found --pretrained {pretrained} and --set {key}={value}; expected one of them; "
                "leave one out"
            )
    if speed and (file is not None or targets):
        option = f"--learner {file}" if file is not None else f"--target {targets[0]}"
        raise ReidpipeError(
            f"found {option} with --speed, which measures untrained learners on the names of "
            "--dataset; expected neither; leave it out"
        )


def unused(
    recipes: Sequence[LearnerRecipe],
    *,
    shots: int | None,
    seeds: Sequence[str],
    settings: Sequence[tuple[str, str]],
    file: Path | None,
    speed: bool,
) -> str | None:
    """What was typed about training where none of the recipes is trained, in one line; None where
    all that was typed acts.
    """
    learners = any(recipe.learner != "zero-shot" for recipe in recipes)
    if learners and file is None and not speed:
        return None
    given = [f"--shots {shots}"] * (shots is not None)
    given += [f"--seed {','.join(seeds)}"] * bool(seeds)
    given += [
        f"--set {key}={value}"
        for key, value in settings
        if is_learnt(key) or (key == "n_ctx" and not learners)
    ]
    if not given:
        return None
    names = ", ".join(recipe.name for recipe in recipes)
    why = "--speed trains nothing" if speed else f"{names} learns nothing"
    if file is not None:
        why = "the learner of --learner is trained already"
    return f"not used: {', '.join(given)}; {why}"


def classes_of(
    terminal: Terminal, dataset: str, split: str, attribute: str | None, wording: str | None
) -> Classes:
    """The classes of a dataset, an id, a YAML file, or a folder or table of one's own."""
    root = own_root(dataset)
    manifest = load_manifest(OWN if root else dataset)
    template = manifest.template or PHOTO
    generated = manifest.id == GENERATED
    # A table of one's own says by its columns what its images are.
    if not (generated or manifest.kind == "classification" or manifest.is_own):
        raise ReidpipeError(
            f"found {dataset}, a dataset of kind {manifest.kind}; expected classes of images, or "
            "people with attributes; type --dataset oxford_pets"
        )
    if split == "people" and not generated:
        raise ReidpipeError(
            f"found --split people of {dataset}, whose images are of classes; expected people with "
            f"attributes; type --dataset {GENERATED}"
        )
    if generated:
        attribute = attribute or (CAPTION if split == "people" else "upper_colour")
        said = wording or WORDINGS.get(attribute, "person with {} " + attribute.replace("_", " "))
    else:
        attribute, said = None, wording or "{}"
    if root is not None:
        index = index_step(terminal.workspace, OWN, root=root, make=terminal.make)
    else:
        index = index_step(terminal.workspace, dataset, make=terminal.make)
    return Classes(index, dataset, template, attribute, said, own=manifest.is_own)


def check_words(
    terminal: Terminal, datasets: Sequence[str], attribute: str | None, wording: str | None
) -> None:
    """Raise ReidpipeError for a wording without its place, and an attribute that nobody has; say
    which of several datasets have none.
    """
    if wording is not None and wording.count("{}") != 1:
        raise ReidpipeError(
            f"found --wording '{wording}'; expected one {{}} where the name goes; type --wording "
            "'person wearing a {} top'"
        )
    others = [name for name in datasets if name.partition(":")[0] != GENERATED]
    if attribute is None or not others:
        return
    if len(others) == len(datasets):
        raise ReidpipeError(
            f"found --attribute {attribute} of {', '.join(others)}; expected it of generated "
            f"people, who alone have attributes; type --dataset {GENERATED}, or leave it out"
        )
    terminal.note(f"--attribute {attribute}: of {GENERATED} alone, not of {', '.join(others)}")


def own_root(dataset: str) -> Path | None:
    """The folder or table that a dataset is typed as; None for an id and a YAML file.

    Raises ReidpipeError for a path to nothing.
    """
    if dataset.partition(":")[0] in manifest_files() or is_file(dataset.rpartition(":")[0]):
        return None
    path = Path(dataset).expanduser()
    if is_file(dataset) or not ("/" in dataset or path.suffix or path.exists()):
        return None
    if not path.exists():
        raise ReidpipeError(
            f"found nothing at {path}; expected a folder of class folders, a CSV with path, class "
            "and classname, or a dataset's id; type reidpipe datasets"
        )
    return path.absolute()

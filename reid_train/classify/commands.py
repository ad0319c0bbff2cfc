"""``reidpipe classify``: prompt learners on classes of images, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.artifacts import graph
from pipeline.artifacts.steps import Step
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.sources import GENERATED, index_step
from pipeline.terminal.commandline import CONTEXT, DEVICE, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from reid_train.classify import steps
from reid_train.classify.recipe import SPLITS, LearnerRecipe, load_learner
from reid_train.classify.steps import Classes, Clip
from reid_train.classify.tables import Line, results, split_lines, table
from reid_train.data.class_rows import CAPTION
from reid_train.recipe.arguments import setting
from reid_train.recipe.combinations import read_names, read_seeds

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


@click.command(context_settings=CONTEXT)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--dataset", "datasets", multiple=True, help="Dataset id.  [default: mannequins]")
@click.option("--shots", type=int, default=16, show_default=True, help="Training images per class.")
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="all",
    show_default=True,
    help="What is learnt on and tested: all classes; the base half, then base and new; other "
    "datasets (--target); ImageNet's variants; people never seen, ranked by words and by images.",
)
@click.option("--target", "targets", multiple=True, help="Dataset that --split cross is tested on.")
@click.option(
    "--attribute",
    help="Of people: the column of identities.csv that makes the classes.  "
    "[default for mannequins: upper_colour; with --split people: caption]",
)
@click.option("--wording", metavar="TEXT", help="What stands for a class, {} its name.")
@click.option(
    "--seed", "seeds", multiple=True, metavar="N|N-M", help="Seeds to average over.  [default: 1]"
)
@click.option(
    "--pretrained",
    metavar="CLIP",
    help="openai, open_clip:ARCH/TAG, clip-tiny, clip-tiny-vit or a file.  [default: the recipe's]",
)
@click.option(
    "--learner",
    "file",
    type=click.Path(path_type=Path),
    help="Test this learner's file (the authors' or ours) instead of training one.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of all recipes."
)
@click.option("--speed", is_flag=True, help="Images per second over batch sizes instead.")
@DEVICE
@json_option
def classify(
    terminal: Terminal,
    recipes: tuple[str, ...],
    datasets: tuple[str, ...],
    shots: int,
    split: str,
    targets: tuple[str, ...],
    attribute: str | None,
    wording: str | None,
    seeds: tuple[str, ...],
    pretrained: str | None,
    file: Path | None,
    settings: tuple[str, ...],
    speed: bool,
    device: str,
) -> None:
    """Accuracy by class name of zero-shot, coop, cocoop or maple; one table for all RECIPEs.

    A learner sees --shots images per class, drawn with the seed (shots.json); the published
    few-shot splits are used when their files lie in the dataset's folder, and the output says so
    when they do not. Figures are percent, mean ± sample standard deviation over the seeds.

    \b
    Example: reidpipe classify zero-shot coop --dataset oxford_pets --split base-new --seed 1-3
    More:
      reidpipe classify coop --dataset imagenet --split cross --target oxford_pets,flowers102
      reidpipe classify zero-shot coop cocoop maple --split domain
      reidpipe classify zero-shot-tiny coop-tiny --attribute upper_colour --seed 1-3
      reidpipe classify zero-shot-tiny coop-tiny --split people --seed 1-3
      reidpipe classify zero-shot coop cocoop maple --dataset oxford_pets --speed
    """
    terminal.workspace.writable()
    changes = [setting(text) for text in settings]
    loaded = [load_learner(name, split, changes) for name in dict.fromkeys(recipes)]
    if shots < 1:
        raise ReidpipeError(f"found --shots {shots}; expected 1 or more; type --shots 16")
    names = read_names(datasets or ["imagenet" if split == "domain" else GENERATED], "--dataset")
    aims = _targets(split, targets, names)
    numbers = read_seeds(seeds or ["1"])
    _check_file(file, loaded)
    clips = {recipe.name: Clip.named(pretrained or recipe.pretrained) for recipe in loaded}
    known = {
        name: _classes(terminal, name, split, attribute, wording)
        for name in dict.fromkeys([*names, *aims])
    }
    execution = terminal.execution(device=device)
    if speed:
        _speed(terminal, loaded, clips, known[names[0]], device)
        return
    lines = [
        _line(recipe, clips[recipe.name], known, name, aims, split, shots, numbers, file)
        for name in names
        for recipe in loaded
    ]
    wanted = [step for line in lines for seed in line.accuracies for step in seed.values()]
    # The indexes too: what they say of their splits is printed.
    indices = [classes.index for classes in known.values()]
    outcome = graph.run(
        terminal.workspace, [*indices, *wanted], execution, announce=terminal.announce
    )
    rows = results(terminal.workspace, lines)
    terminal.say(table(rows))
    told = split_lines(terminal.workspace, indices)
    for text in told:
        terminal.say(text)
    terminal.told(outcome)
    for step in _learners(wanted):
        terminal.say(f"learner {terminal.workspace.folder(step)}")
    terminal.result(
        {
            "rows": rows,
            "splits": told,
            "learners": [str(terminal.workspace.folder(step)) for step in _learners(wanted)],
            "made": [step.key for step in outcome.made],
        }
    )


def _targets(split: str, targets: Sequence[str], datasets: Sequence[str]) -> tuple[str, ...]:
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
    if split == "domain" and datasets != ("imagenet",):
        raise ReidpipeError(
            f"found --split domain of {', '.join(datasets)}; expected imagenet, whose variants "
            "they are; type --dataset imagenet"
        )
    given = targets or (VARIANTS if split == "domain" else ())
    return read_names(given, "--target") if given else ()


def _check_file(file: Path | None, recipes: Sequence[LearnerRecipe]) -> None:
    if file is None:
        return
    if not file.is_file():
        raise ReidpipeError(f"found no file {file}; expected a learner's; type --learner FILE")
    if len(recipes) > 1 or recipes[0].learner == "zero-shot":
        raise ReidpipeError(
            f"found --learner for {', '.join(recipe.name for recipe in recipes)}; expected the one "
            "recipe it was trained by; type reidpipe classify coop --learner FILE"
        )


def _classes(
    terminal: Terminal, dataset: str, split: str, attribute: str | None, wording: str | None
) -> Classes:
    manifest = load_manifest(dataset)
    template = manifest.template or PHOTO
    if manifest.kind == "classification":
        if split == "people":
            raise ReidpipeError(
                f"found --split people of {dataset}, a classification set; expected people with "
                "attributes; type --dataset mannequins"
            )
        return Classes(index_step(terminal.workspace, dataset), dataset, template)
    if manifest.id == GENERATED:
        attribute = attribute or (CAPTION if split == "people" else "upper_colour")
    if attribute is None:
        raise ReidpipeError(
            f"found {dataset}, a dataset of kind {manifest.kind}; expected classes of images, or "
            "people with attributes; type --dataset oxford_pets"
        )
    said = wording or WORDINGS.get(attribute, "person with {} " + attribute.replace("_", " "))
    if said.count("{}") != 1:
        raise ReidpipeError(
            f"found --wording '{said}'; expected one {{}} where the name goes; type --wording "
            "'person wearing a {} top'"
        )
    return Classes(index_step(terminal.workspace, dataset), dataset, template, attribute, said)


def _line(
    recipe: LearnerRecipe,
    clip: Clip,
    known: dict[str, Classes],
    dataset: str,
    targets: Sequence[str],
    split: str,
    shots: int,
    seeds: Sequence[int],
    file: Path | None,
) -> Line:
    """The steps of one line. Nothing is trained, and no seed matters, for zero-shot and files."""
    source = known[dataset]
    if recipe.class_specific and split != "all":
        raise ReidpipeError(
            f"found class-specific vectors and --split {split}; expected shared ones, as they say "
            "nothing about other classes; type --set class_specific=false, or --split all"
        )
    columns = {"accuracy": (source, "all")}
    if split == "base-new":
        columns = {part: (source, part) for part in ("base", "new")}
    elif targets:
        columns = {name: (known[name], "all") for name in dict.fromkeys([dataset, *targets])}

    def tests(trained: Step | None) -> dict[str, Step]:
        return {
            column: steps.accuracy(of, recipe, clip, part=part, trained=trained, file=file)
            for column, (of, part) in columns.items()
        }

    def ranks(trained: Step | None) -> dict[str, Step]:
        return {"people": steps.retrieval(source, recipe, clip, trained=trained, file=file)}

    test = ranks if split == "people" else tests
    if recipe.learner == "zero-shot" or file is not None:
        return Line(recipe.name, dataset, split, None, (), (test(None),), tuple(targets))
    part = {"base-new": "base", "people": "seen"}.get(split, "all")
    found = []
    for seed in seeds:
        trained = steps.learner(source, recipe, clip, count=shots, part=part, seed=seed)
        found.append(test(trained))
    return Line(recipe.name, dataset, split, shots, tuple(seeds), tuple(found), tuple(targets))


def _learners(wanted: Sequence[Step]) -> list[Step]:
    found = {s.inputs["learner"].key: s.inputs["learner"] for s in wanted if "learner" in s.inputs}
    return list(found.values())


def _speed(
    terminal: Terminal,
    recipes: Sequence[LearnerRecipe],
    clips: dict[str, Clip],
    classes: Classes,
    device: str,
) -> None:
    """Images per second, measured now: nothing of it is kept."""
    graph.run(terminal.workspace, [classes.index], terminal.execution(device=device))
    from reid_train.classify.speed import measure, speed_table

    rows = [
        measure(
            recipe,
            clips[recipe.name],
            classes,
            terminal.workspace.folder(classes.index),
            weights=terminal.workspace.root / "weights",
            device=device,
        )
        for recipe in recipes
    ]
    terminal.say(speed_table(rows))
    terminal.result({"rows": rows})

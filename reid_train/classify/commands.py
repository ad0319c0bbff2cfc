"""``reidpipe classify``: prompt learners on classes of images, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.artifacts import graph
from pipeline.artifacts.steps import Step
from pipeline.datasets.sources import GENERATED
from pipeline.terminal.commandline import CONTEXT, DEVICE, JOBS, TABLE, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.paths import TypedPath
from reid_train.classify import steps
from reid_train.classify.arguments import (
    check_conflicts,
    check_file,
    check_words,
    classes_of,
    read_targets,
    unused,
)
from reid_train.classify.expected import beside_lines
from reid_train.classify.recipe import SPLITS, LearnerRecipe, load_learner
from reid_train.classify.steps import Classes, Clip
from reid_train.classify.tables import (
    RANKED_HOW,
    Line,
    publication,
    read_table,
    results,
    split_lines,
    table,
)
from reid_train.recipe import expected
from reid_train.recipe.arguments import setting
from reid_train.recipe.combinations import read_names, read_seeds

SHOTS = 16
# The classes that --split has a learner learn, all but where it says so.
PART_LEARNT = {"base-new": "base", "people": "seen"}


@click.command(context_settings=CONTEXT)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="ID|DIR|CSV",
    help="Dataset id, or classes of your own: a folder of class folders, or a table.  "
    "[default: mannequins]",
)
@click.option("--shots", type=int, help="Training images per class.  [default: 16]")
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
@click.option(
    "--wording", metavar="TEXT", help="What stands for a class in its sentence, {} its name."
)
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
    type=TypedPath(),
    help="Test this learner's file (the authors' or ours) instead of training one.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of all recipes."
)
@click.option("--speed", is_flag=True, help="Images per second over batch sizes instead.")
@TABLE
@JOBS
@DEVICE
@json_option
def classify(
    terminal: Terminal,
    recipes: tuple[str, ...],
    datasets: tuple[str, ...],
    shots: int | None,
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
    Classes of your own, DIR/CLASS/IMAGE, DIR/train|val|test/CLASS/IMAGE or path,class,classname:
      reidpipe classify zero-shot-tiny coop-tiny --dataset DIR --shots 4
      reidpipe classify zero-shot-tiny --dataset classes.csv --wording "person in a {}"
    """
    if speed and terminal.table:
        raise ReidpipeError(
            f"found --speed and --table {terminal.table}; expected accuracies for a table; leave "
            "one out"
        )
    terminal.workspace.writable()
    changes = [setting(text) for text in settings]
    loaded = [load_learner(name, split, changes) for name in dict.fromkeys(recipes)]
    if shots is not None and shots < 1:
        raise ReidpipeError(f"found --shots {shots}; expected 1 or more; type --shots 16")
    names = read_names(datasets or ["imagenet" if split == "domain" else GENERATED], "--dataset")
    check_conflicts(
        settings=changes, pretrained=pretrained, file=file, speed=speed, targets=targets
    )
    aims = () if speed else read_targets(split, targets, names)
    numbers = read_seeds(seeds or ["1"])
    check_file(file, loaded)
    clips = {recipe.name: Clip.named(pretrained or recipe.pretrained) for recipe in loaded}
    asked = list(dict.fromkeys([*names, *aims]))
    check_words(terminal, asked, attribute, wording)
    known = {name: classes_of(terminal, name, split, attribute, wording) for name in asked}
    idle = unused(loaded, shots=shots, seeds=seeds, settings=changes, file=file, speed=speed)
    if idle is not None:
        terminal.note(idle)
    execution = terminal.execution(device=device)
    if speed:
        _speed(terminal, loaded, clips, [known[name] for name in names], device)
        return
    lines = [
        _line(recipe, clips[recipe.name], known, name, aims, split, shots or SHOTS, numbers, file)
        for name in names
        for recipe in loaded
    ]
    wanted = [step for line in lines for seed in line.accuracies for step in seed.values()]
    # The indexes too: what they say of their splits is printed.
    indices = [classes.index for classes in known.values()]

    def check() -> None:
        for name, classes in known.items():
            found = read_table(terminal.workspace, classes)
            if any(line.shots for line in lines if line.dataset == name):
                found.rows_of("train", PART_LEARNT.get(split, "all"))
            for part in ("base", "new") if split == "base-new" else ("all",):
                found.rows_of("test", part)

    outcome = graph.run_checked(
        terminal.workspace,
        [*indices, *wanted],
        execution,
        first=indices,
        check=check,
        announce=terminal.announce,
    )
    rows = results(terminal.workspace, lines)
    terminal.say(table(rows))
    terminal.publish(publication(rows))
    told = split_lines(terminal.workspace, known.values())
    for text in told:
        terminal.say(text)
    if split == "people":
        terminal.say(RANKED_HOW)
    published = beside_lines(rows, loaded, clips, known, told, file)
    for text in expected.lines(published):
        terminal.say(text)
    terminal.told(outcome)
    for step in _learners(wanted):
        terminal.say(f"learner {terminal.workspace.folder(step)}")
    terminal.result(
        {
            "rows": rows,
            "splits": told,
            "published": expected.rows(published),
            "learners": [str(terminal.workspace.folder(step)) for step in _learners(wanted)],
            "made": [step.key for step in outcome.made],
        }
    )


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
    part = PART_LEARNT.get(split, "all")
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
    datasets: Sequence[Classes],
    device: str,
) -> None:
    """Images per second, measured now: nothing of it is kept."""
    from reid_train.classify.speed import measure, speed_table
    from reid_train.classify.weights import bring_named

    named = [clips[recipe.name].params["pretrained"] for recipe in recipes]
    bring_named(named, terminal.workspace.root / "weights")
    indices = [classes.index for classes in datasets]
    graph.run(terminal.workspace, indices, terminal.execution(device=device))
    rows = [
        measure(
            recipe,
            clips[recipe.name],
            classes,
            terminal.workspace.folder(classes.index),
            weights=terminal.workspace.root / "weights",
            device=device,
        )
        for classes in datasets
        for recipe in recipes
    ]
    terminal.say(speed_table(rows))
    terminal.result({"rows": rows})

"""The body of ``reidpipe train``."""

from __future__ import annotations

from pipeline.artifacts import graph
from pipeline.artifacts.recording import recorded
from pipeline.artifacts.runs import Run, record_runs
from pipeline.artifacts.steps import Step
from pipeline.terminal.commandline import Terminal
from reid_train.recipe.bodies import Maps
from reid_train.recipe.bodies.map_options import check_reads_maps


def train(
    terminal: Terminal,
    label_maps: Maps,
    *,
    recipe: str,
    dataset: str,
    parsing: str,
    pretrained: str | None,
    settings: tuple[str, ...],
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    seed: int,
    eval_every: int | None,
    eval_on: str | None,
    keep: str | None,
    goes_on: str | None,
    logs: tuple[str, ...],
    device: str,
) -> None:
    """The body of ``reidpipe train``."""
    from reid_train.engine.trackers import read_trackers
    from reid_train.recipe import random_start
    from reid_train.recipe.arguments import check_data, in_settings, model_step
    from reid_train.recipe.continuation import continued_step
    from reid_train.recipe.short_forms import Short
    from reid_train.recipe.validation import asked, told

    def maps(index: Step) -> Step:
        return label_maps(index, parsing)

    trackers, short = read_trackers(logs), Short(epochs, batch, lr)
    if goes_on is not None:
        step = continued_step(terminal, goes_on, settings=settings, short=short, label_maps=maps)
        dataset, seed = step.inputs["index"].params["dataset"], step.params["seed"]
    else:
        settings = in_settings([recipe], settings, short)
        check_reads_maps([recipe], settings)
        step = model_step(
            terminal,
            recipe,
            dataset,
            seed=seed,
            pretrained=pretrained,
            settings=settings,
            label_maps=maps,
        )
    for line in random_start.warnings(terminal.workspace, [step]):
        terminal.note(line)
    looked = asked(terminal, step, every=eval_every, on=eval_on, keep=keep)

    run = Run.of(step.params["recipe"]["name"], step.inputs["index"].params["dataset"], seed, step)
    execution = terminal.execution(device=device, trackers=trackers, runs=[run.name])

    def check() -> None:
        check_data(terminal.workspace, step, dataset)
        looked.check(terminal, step)

    with recorded(terminal.workspace, [run], terminal.announce) as announce:
        outcome = graph.run_checked(
            terminal.workspace,
            [step],
            looked.execution(terminal.workspace, execution),
            first=[step.inputs["index"], *looked.steps],
            check=check,
            announce=announce,
        )
    record_runs(terminal.workspace, [run])
    summary = terminal.workspace.provenance(step)["summary"]
    terminal.told(outcome)
    if trackers and step not in outcome.made:
        terminal.note(f"the model was trained before: {', '.join(trackers)} got nothing of it")
    terminal.say(f"run {run.name}")
    for name, value in sorted(summary.items()):
        if isinstance(value, int | float | str):
            terminal.say(f"  {name}: {value}")
    lines, facts = told(terminal.workspace, run.name, step)
    for line in lines:
        terminal.say(line)
    if summary.get("identities") == 0:
        terminal.say(f"next: reidpipe embed {run.name} DIR, then reidpipe search")
    else:
        terminal.say(f"next: reidpipe eval {run.name}")
    terminal.result(
        {
            "run": run.name,
            "model": str(terminal.workspace.folder(step)),
            "made": [made.key for made in outcome.made],
            **facts,
            **summary,
        }
    )

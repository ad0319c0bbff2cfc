"""The ``reidpipe`` command: from datasets to metrics."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from pipeline.commandline import CONTEXT, LazyGroup

COMMANDS = {
    "prepare": ("Fetch, verify, index, check and pack a dataset.", "pipeline.commands:prepare"),
    "parse": ("Cache human-parsing label maps.", "parsing_models.commands:parse"),
    "train": ("Train a recipe; makes what is missing, resumes.", "reid_train.commands:train"),
    "eval": ("Evaluate a run: CMC, mAP, mINP, report.", "reid_train.commands:evaluate"),
    "report": ("One HTML page for a run or a comparison.", "reid_train.commands:report"),
    "embed": ("Features of a folder of images.", "reid_train.commands:embed"),
    "search": ("Ranked matches of an image in a folder.", "reid_train.commands:search"),
    "demo": ("The whole graph on generated people.", "reid_train.demo:demo"),
    "status": ("What exists and what was left unfinished.", "pipeline.cache_commands:status"),
    "cache": ("List, remove or verify artifacts.", "pipeline.cache_commands:cache"),
    "datasets": ("Datasets, their licences and citations.", "pipeline.commands:datasets"),
    "recipes": ("Recipes and what they train.", "reid_train.commands:recipes"),
    "doctor": ("Versions, devices, disk, what is missing.", "reid_train.commands:doctor"),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings=CONTEXT)
@click.option(
    "--workspace",
    envvar="REIDPIPE_WORKSPACE",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reid-workspace"),
    show_default="./reid-workspace",
    help="Folder for artifacts, runs, weights and reports (or REIDPIPE_WORKSPACE).",
)
@click.version_option(version("reidpipe"), prog_name="reidpipe")
def main(workspace: Path) -> None:
    """Person re-identification from datasets to metrics.

    prepare -> parse -> train -> eval; every step is cached and reused. Without arguments each of
    the four works on generated people and downloads nothing. Start with: reidpipe demo
    """


if __name__ == "__main__":
    main()

"""Image files to features by the model of a run, always in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import graph
from pipeline.artifacts.executors.threads import threads_of
from pipeline.artifacts.runs import Run
from pipeline.terminal.commandline import Terminal
from reid_train.evaluation.results import distance_of

Encoder = Callable[[Sequence[Path]], tuple[np.ndarray, list[Path], dict[str, str]]]


@dataclass(frozen=True)
class Making:
    """How features of image files are made and compared: by which model, whether the mirrored
    image's are added, by which distance. Two similarities mean the same only where all are equal,
    and a threshold holds only for such. A model's table of cameras or views is never used.
    """

    model: str
    flip: bool
    distance: str

    def stored(self) -> dict[str, object]:
        """As JSON."""
        return {"model_key": self.model, "flip": self.flip, "distance": self.distance}


def making(run: Run, flip: bool) -> Making:
    """How embed, search and score make features: mirrored where asked for, or as the recipe says,
    as ``eval`` does.
    """
    return Making(run.model.key, flip or _mirrors(run), distance_of(run.model))


def evaluated_by(run: Run, how: Making) -> str:
    """The command that calibrates a threshold of features that are made so."""
    return f"reidpipe eval {run.name}{' --flip' if how.flip and not _mirrors(run) else ''}"


def _mirrors(run: Run) -> bool:
    return bool(run.model.params["recipe"]["test"]["flip"])


def run_encoder(
    terminal: Terminal, run: Run, device: str, how: Making, feature: str = "embedding"
) -> Encoder:
    """Image files -> what ``embed_files`` gives for them, by a run's model, which is made again if
    it was removed. A table of cameras is left out, which is said: images of no data set are from
    none of its cameras.
    """
    from reid_train import load_model
    from reid_train.engine.runtime import Runtime
    from reid_train.evaluation.image_files import embed_files
    from reid_train.evaluation.side_information import left_out

    terminal.workspace.writable()
    threads = threads_of(terminal.workspace.root)
    runtime = Runtime.create(device, "fp32", threads)
    execution = terminal.execution(device=device)
    graph.run(terminal.workspace, [run.model], execution, announce=terminal.announce)
    model = load_model(terminal.workspace.folder(run.model), device=str(runtime.device))
    if (told := left_out(model, "these images are of no data set")) is not None:
        terminal.note(told)
    return lambda paths: embed_files(
        model,
        paths,
        feature=feature,
        filter=run.model.params["recipe"]["input"]["test_filter"],
        runtime=runtime,
        flip=how.flip,
        progress=terminal.draws,
    )

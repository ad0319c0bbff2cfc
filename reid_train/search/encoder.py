"""Image files to features by the model of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.artifacts import graph
from pipeline.artifacts.runs import Run
from pipeline.terminal.commandline import Terminal

Encoder = Callable[[Sequence[Path]], tuple[np.ndarray, list[Path], dict[str, str]]]


def with_mirrored(run: Run, flip: bool) -> bool:
    """Whether the mirrored image's features are added: it was asked for, or the recipe says so."""
    return flip or run.model.params["recipe"]["test"]["flip"]


def run_encoder(
    terminal: Terminal, run: Run, device: str, flip: bool, feature: str = "embedding"
) -> Encoder:
    """Image files -> what ``embed_files`` gives for them, by a run's model, which is made again if
    it was removed. flip: whether the mirrored image's features are added. A table of cameras is
    left out, which is said: images of no data set are from none of its cameras.
    """
    from reid_train import load_model
    from reid_train.engine.runtime import Runtime
    from reid_train.evaluation.image_files import embed_files
    from reid_train.evaluation.side_information import left_out

    runtime = Runtime.create(device, "fp32")
    terminal.workspace.writable()
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
        flip=flip,
        progress=execution.progress,
    )

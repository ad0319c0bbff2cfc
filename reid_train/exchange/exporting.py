"""A model of ours as a program that runs without this package: torch.export and ONNX."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts.atomic import replacing
from pipeline.terminal.errors import ReidpipeError
from reid_train.models.deployable import ReidModel

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Largest difference from the model, as a share of its largest feature.
TOLERANCE = 1e-3
# Batches that are compared: neither was seen while the program was made.
BATCHES = (1, 3)

OUTPUT, BATCH = "embedding", "n"  # names of the features and of the number of images

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Tensor]


def export_torch(model: ReidModel, file: Path) -> dict[str, Any]:
    """Write ``model`` as a ``torch.export`` program (.pt2) once it gives the model's features.

    Its inputs are those of ``example_inputs``, by name, their first axis of any size ``n``; its
    output the features n,D (a tensor, whose node is called ``embedding``).
    Returns what ``compare`` does. Raises ReidpipeError when the program differs.
    """
    program = _program(model)
    module = program.module()
    found = compare(model, lambda inputs: module(**inputs))
    with replacing(file) as temporary, temporary.open("wb") as stream:
        torch.export.save(program, stream)
    return found


def export_onnx(model: ReidModel, file: Path) -> dict[str, Any]:
    """As ``export_torch``, as an ONNX file whose output is called ``embedding`` and whose first
    axes are called ``n``; compared in onnxruntime on the CPU.

    Raises ReidpipeError when the packages it takes are missing.
    """
    require_onnx()
    # An extra: type checkers of a plain installation must not look for it.
    onnxruntime = importlib.import_module("onnxruntime")

    with _quiet():
        exported = torch.onnx.export(
            _program(model), dynamo=True, verbose=False, output_names=[OUTPUT]
        )
    assert exported is not None
    _name_batch(exported.model)
    with replacing(file) as temporary:
        # One file: external data would leave the temporary name inside it.
        exported.save(str(temporary), external_data=False)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])

        def run(inputs: Inputs) -> Tensor:
            (features,) = session.run(None, {k: v.numpy() for k, v in inputs.items()})
            return torch.from_numpy(features)

        return compare(model, run)


def require_onnx() -> None:
    """Raise ReidpipeError, naming what to install, unless ONNX can be written and checked."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ReidpipeError(
            f"found no {', '.join(missing)}; expected what ONNX needs beside reidpipe; "
            f"type pip install {' '.join(ONNX_PACKAGES)} (or --format torch-export)"
        )


def example_inputs(model: ReidModel, batch: int, *, seed: int) -> Inputs:
    """Random inputs by name: ``images`` float32 N,3,H,W in 0..1; for models with side information
    ``camids`` and ``views``, int64 N.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = model.input_size
    inputs = {"images": torch.rand(batch, 3, height, width, generator=generator)}
    for name, count in model.side_tables.items():
        inputs[name] = torch.randint(count, (batch,), generator=generator)
    return inputs


def compare(model: ReidModel, program: Program) -> dict[str, Any]:
    """The program against the model on random images: ``max_error`` (absolute), ``relative_error``
    (of the largest feature) and the ``batches`` tried. Raises ReidpipeError beyond ``TOLERANCE``.
    """
    features, differences = [], []
    with torch.no_grad():
        for seed, batch in enumerate(BATCHES):
            inputs = example_inputs(model, batch, seed=seed)
            features.append(model(**inputs))
            differences.append(program(inputs) - features[-1])
    error, scale = (float(torch.cat(rows).abs().max()) for rows in (differences, features))
    # A comparison with NaN is false: only a difference within the tolerance passes.
    if not error <= TOLERANCE * scale:
        raise ReidpipeError(
            f"found features {error:.2g} apart in the exported program (largest {scale:.2g}); "
            f"expected {TOLERANCE:g} of it at most; nothing was written, type another --format"
        )
    return {"max_error": error, "relative_error": error / scale, "batches": list(BATCHES)}


def _program(model: ReidModel) -> torch.export.ExportedProgram:
    inputs = example_inputs(model, 2, seed=7)
    batch = torch.export.Dim(BATCH, min=1)
    shapes = {name: {0: batch} for name in inputs}
    with torch.no_grad(), _quiet():
        program = torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=True)
    # There is no public way to a name: the node's, and what the signature calls it.
    result: Any = program.graph.output_node().args
    result[0][0]._rename(OUTPUT)
    said: Any = program.graph_signature.output_specs[-1].arg
    said.name = OUTPUT
    return program


def _name_batch(model: Any) -> None:
    """Call the number of images ``n`` in an ONNX model, in place of a symbol's number."""
    symbol = str(model.graph.inputs[0].shape[0])
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if str(size) == symbol:
                value.shape[axis] = BATCH


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes on its own insides, which would stand among a command's lines."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

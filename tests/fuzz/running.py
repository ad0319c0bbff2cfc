"""All inputs that are asked for: imports once, whole files once, then a child for each."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.fuzz import pristine
from tests.fuzz.harness import Verdict, as_line, attempt, in_child, ready
from tests.fuzz.kinds import KINDS

__all__ = ["KINDS", "as_line", "memory", "shares", "verdicts"]

# What commands import when they need it.
_HEAVY = (
    "cli", "h5py", "jinja2", "matplotlib.backends.backend_svg", "matplotlib.pyplot", "scipy.io",
    "sklearn.manifold", "sklearn.cluster", "torch", "torch._dynamo", "torchvision",
    "transformers.models.segformer.modeling_segformer", "safetensors.torch", "yaml", "faiss",
    "transformers.models.segformer.image_processing_segformer", "open_clip", "timm", "PIL.Image",
    
)  # fmt: skip
_APART = ("__main__", "published")


def memory() -> str | None:
    """A folder in memory, where there is one: inputs are many small files."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def shares(inputs: int, kinds: Sequence[str]) -> dict[str, int]:
    """How many inputs each kind gets, by its weight."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise SystemExit(f"found kind {unknown[0]}; expected one of {', '.join(KINDS)}")
    total = sum(KINDS[kind][1] for kind in kinds)
    return {kind: -(-inputs * KINDS[kind][1] // total) for kind in kinds}


def verdicts(place: Path, numbers: Mapping[str, Iterable[int]], seed: int) -> Iterator[Verdict]:
    """Judge the inputs of these numbers, kind by kind. place: an empty folder."""
    prepare(place)
    for kind, chosen in numbers.items():
        maker = KINDS[kind][0]
        for number in chosen:
            yield attempt(kind, number, seed, maker, place / "pristine", place)


def prepare(place: Path) -> None:
    """Import everything and make the whole files, in a child: no thread may start in here."""
    sys.modules.setdefault("wandb", None)  # type: ignore[arg-type]  # puts itself between us and stdout
    for name in (*_ours(), *_HEAVY):
        try:
            importlib.import_module(name)
        except ImportError:  # an extra that is not installed
            continue
    ready()
    (place / "pristine").mkdir()
    done, _ = in_child(lambda: pristine.build(place / "pristine"), wall=900, limited=False)
    if done is None:
        raise RuntimeError("the whole files could not be made")


def _ours() -> Iterator[str]:
    for house in ("pipeline", "reid_train", "parsing_models"):
        package = importlib.import_module(house)
        for found in pkgutil.walk_packages(package.__path__, f"{house}."):
            if not set(found.name.split(".")) & set(_APART):
                yield found.name

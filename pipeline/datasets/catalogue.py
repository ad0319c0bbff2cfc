"""The datasets there are: those of ``data_manifests``, and any YAML file of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.datasets.manifest import Manifest
from pipeline.datasets.variants import chosen, overlaid
from pipeline.terminal.errors import DamagedFile, ReidpipeError, nearest
from pipeline.terminal.yaml_text import read_yaml_file


def parse_manifest(content: dict[str, Any], variant: str | None = None) -> Manifest:
    """Validate the plain content of a YAML file, with one variant laid over it, or several joined
    by + where its ``variants_join`` is true.

    ``default_variant`` is taken when none is named; without either, the fields stand as they are.
    Raises ReidpipeError naming the first wrong field or the unknown variant.
    """
    for field, kind in (("id", str), ("variants", dict), ("default_variant", str)):
        if not isinstance(content.get(field, kind()), kind):
            raise ReidpipeError(
                f"manifest: found {repr(content[field])[:60]} for '{field}'; expected "
                f"{'text' if kind is str else 'a mapping of variants'}; correct the file"
            )
    fields = dict(content)
    variants: dict[str, Any] = fields.pop("variants", {})
    name = content.get("id", "?")
    variant = variant or content.get("default_variant")
    if variant is not None and content.get("any_variant") and variant not in variants:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", variant):
            raise ReidpipeError(
                f"found the name '{variant}' for images of your own; expected letters, digits, "
                f". _ and -; type {name}:NAME"
            )
        variants = {**variants, variant: {}}
    if variant is not None:
        join = content.get("variants_join") is True
        variant, layers = chosen(name, variant, variants, join=join)
        for over in layers:
            fields = overlaid(fields, over)
    fields |= {"variants": list(variants), "variant": variant}
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        why = first["msg"].removeprefix("Value error, ")
        raise ReidpipeError(
            f"manifest {name}: found a wrong '{where}': {why}; "
            "expected the fields of pipeline/datasets/manifest.py"
        ) from error


def load_manifest(dataset: str) -> Manifest:
    """The manifest of ``id`` or ``id:variant``, or of a YAML file of one's own: ``./mine.yaml`` or
    ``./mine.yaml:variant``.

    Raises ReidpipeError naming the nearest known id or variant, or what is wrong with the file.
    """
    whole = is_file(dataset) and Path(dataset).expanduser().is_file()  # whatever its name has
    split = ":" in dataset and not whole
    name, _, variant = dataset.rpartition(":") if split else (dataset, "", "")
    known = manifest_files()
    if is_file(name):
        return _own_file(Path(name).expanduser(), variant or None, known)
    if name not in known:
        raise ReidpipeError(
            f"found dataset '{name}'{nearest(name, known)}; expected one of "
            f"{', '.join(sorted(known))}, or a YAML file of your own; type reidpipe datasets"
        )
    return parse_manifest(read_yaml_file(known[name]), variant or None)


def is_file(dataset: str) -> bool:
    """Whether a dataset is given as a YAML file, not by its id."""
    return dataset.lower().endswith((".yaml", ".yml"))


def _own_file(path: Path, variant: str | None, known: Mapping[str, Any]) -> Manifest:
    if not path.is_file():
        raise ReidpipeError(
            f"found no dataset in {path} (no such file); expected a YAML file; type its path"
        )
    content = read_yaml_file(path)
    if not isinstance(content, dict):
        raise ReidpipeError(f"found no mapping in {path}; expected the fields of a dataset")
    if str(content.get("id")) in known:
        raise ReidpipeError(
            f"found id '{content['id']}' in {path}, which a dataset of the package has; expected "
            "one of its own; rename it"
        )
    # Whoever has published nothing has no loader whose way must be kept.
    content = {"decoding": "as-seen", **content}
    return parse_manifest(content, variant).model_copy(update={"file": str(path)})


def definition(manifest: Manifest) -> dict[str, Any] | None:
    """Of a dataset of one's own what its artifacts must carry, since no id leads back to its file;
    None for those of the package. ``defined`` is the inverse.
    """
    return manifest.model_dump(mode="json", exclude_defaults=True) if manifest.file else None


def defined(dataset: str, given: Mapping[str, Any] | None) -> Manifest | None:
    """The manifest behind an artifact: of its definition, or of the package's dataset; None for a
    name that has neither.
    """
    if given is not None:
        try:
            return Manifest.model_validate(given)
        except ValidationError as error:
            raise DamagedFile(
                f"found a definition of {dataset} with a wrong "
                f"'{'.'.join(map(str, error.errors()[0]['loc']))}'; expected what reidpipe prepare "
                "wrote; type reidpipe cache verify --repair"
            ) from error
    known = dataset.partition(":")[0] in manifest_files()
    return load_manifest(dataset) if known else None


def list_manifests() -> list[Manifest]:
    """All datasets in their default variant, sorted by kind and id."""
    manifests = [load_manifest(name) for name in manifest_files()]
    order = ("reid", "parsing", "classification")
    return sorted(manifests, key=lambda manifest: (order.index(manifest.kind), manifest.id))


def manifest_files() -> dict[str, Any]:
    """id -> YAML file of all datasets."""
    entries = resources.files("data_manifests").iterdir()
    return {e.name.removesuffix(".yaml"): e for e in entries if e.name.endswith(".yaml")}

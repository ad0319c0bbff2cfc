"""Models in Hugging Face's layout: which folder, which of its files matter. Imports no torch.

A model is named ``hf:FOLDER`` or ``hf:OWNER/NAME[@REVISION]``. A hub model is looked up in the
hub's own cache first and downloaded, by ``huggingface_hub`` alone, only when it is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from parsing_models.parsers.label_names import class_table, flip_order, read_label_map, target_set
from pipeline.artifacts.atomic import read_json
from pipeline.terminal.errors import ReidpipeError

KIND = "hf"
PREFIX = "hf:"
CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
# In the order in which transformers prefers them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# OneFormer reads its task as a sentence.
TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# Their weights hold one grid of positions: no other input size.
FIXED_SIZE = ("beit", "data2vec-vision", "eomt")
# Beyond what any network of the kind has: of classes, layers and, with few weights, channels.
MOST_LABELS, MOST_LAYERS, LEAST_SIZE = 10_000, 1_000, 10_000
_LAYERS = ("depth", "layers", "blocks", "num_stages")
TASKS = ("ForSemanticSegmentation", "ForUniversalSegmentation", "ForInstanceSegmentation")
_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
_SNAPSHOT = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]+)$")


@dataclass(frozen=True)
class Saved:
    """A folder that ``save_pretrained`` wrote. config: its ``config.json``; processor: what it says
    about images, empty when it has no such file."""

    folder: Path
    config: Mapping[str, Any]
    processor: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``hf:owner/name@commit`` for a snapshot of the hub, else ``hf:folder`` without its path,
        which means nothing elsewhere."""
        found = _SNAPSHOT.search(self.folder.as_posix())
        if found:
            return f"{PREFIX}{found['owner']}/{found['name']}@{found['commit'][:12]}"
        return PREFIX + self.folder.name

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes in the order of its outputs (``id2label``)."""
        given, count = self.config.get("id2label"), self.config.get("num_labels")
        if count is not None and not (type(count) is int and 0 < count <= MOST_LABELS):
            raise self._wrong("num_labels", count, f"a number of classes, 1 to {MOST_LABELS}")
        if not given:
            return tuple(f"LABEL_{n}" for n in range(count or 2))
        if not isinstance(given, Mapping) or len(given) > MOST_LABELS:
            raise self._wrong("id2label", given, "a name for each number of a class")
        numbered = {str(number): str(name) for number, name in given.items()}
        wanted = [str(number) for number in range(len(numbered))]
        if sorted(numbered) != sorted(wanted):
            raise ReidpipeError(
                f"found id2label of {self.folder / CONFIG} with classes "
                f"{', '.join(sorted(numbered))[:80]}; expected 0 to {len(numbered) - 1} without "
                "gaps; correct the file"
            )
        return tuple(numbered[number] for number in wanted)

    def _wrong(self, name: str, found: Any, expected: str) -> ReidpipeError:
        return ReidpipeError(
            f"found {name} {repr(found)[:80]} in {self.folder / CONFIG}; expected {expected}; "
            "correct the file"
        )

    def check_sizes(self) -> None:
        """Raise ReidpipeError for sizes that the weights cannot have: a network is made before its
        weights are looked at, and one with a billion channels takes the machine's memory.
        """
        weights = sum(self.files[name].stat().st_size for name in self.files
                      if name not in (CONFIG, *PROCESSORS))  # fmt: skip
        for name, value in _numbers(self.config):
            layers = any(word in name for word in _LAYERS)
            if value > (MOST_LAYERS if layers else max(weights, LEAST_SIZE)):
                raise self._wrong(name, value, f"a size that fits its weights of {weights} bytes")

    @cached_property
    def files(self) -> dict[str, Path]:
        """Name -> each file that changes the maps: configuration, image processor, weights."""
        names = [CONFIG, *PROCESSORS]
        if self.config.get("model_type") == "oneformer":
            names += TOKENIZER
        found = {name: self.folder / name for name in names if (self.folder / name).is_file()}
        for name in (*WEIGHTS, *PICKLED_WEIGHTS):
            path = self.folder / name
            if path.is_file():
                found[name] = path
                if name.endswith(".index.json"):
                    shards = _shards(path)
                    found.update({shard: self.folder / shard for shard in shards})
                break
        else:
            raise ReidpipeError(
                f"found no weights in folder {self.folder}; expected one of "
                f"{', '.join((*WEIGHTS, *PICKLED_WEIGHTS))}; save the model with save_pretrained"
            )
        absent = [name for name, path in found.items() if not path.is_file()]
        if absent:
            raise ReidpipeError(
                f"found no file {absent[0]} in folder {self.folder}; expected every file its index "
                "names; copy the whole model"
            )
        return found

    def table(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        """For each of its classes the class of the target label set, under a parser's options."""
        label_map = options.get("label_map")
        return class_table(
            self.labels,
            target_set(options.get("label_set", "lip")),
            None if label_map is None else read_label_map(label_map),
            source=self.name,
        )

    @property
    def one_size(self) -> bool:
        """Whether its network takes input of one size alone."""
        return self.config.get("model_type") in FIXED_SIZE

    def one_sided(self, options: Mapping[str, Any]) -> bool:
        """Whether of some pair of sides of the target label set it knows one alone."""
        target = target_set(options.get("label_set", "lip"))
        return bool((flip_order(self.table(options), target) != target.flip_order).any())


def _shards(index: Path) -> list[str]:
    """The files that an index of weights names, which lie beside it."""
    content = _json(index)
    named = content.get("weight_map")
    shards = set(named.values()) if isinstance(named, dict) and all(
        isinstance(name, str) for name in named.values()
    ) else set()  # fmt: skip
    if not shards or any(Path(name).name != name for name in shards):
        raise ReidpipeError(
            f"found {index} without the names of files beside it; expected what save_pretrained "
            "writes; copy the model again"
        )
    return sorted(shards)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration and where it stands, but for numbers of tokens."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not str(key).endswith(("token_id", "token_index", "label2id")):
                yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item, name)
    elif type(value) is int:
        yield name, value


def is_hub(kind: str) -> bool:
    """Whether a parser is named as a Hugging Face model."""
    return kind == KIND or kind.startswith(PREFIX)


def folder_of(kind: str, weights: Path | str | None = None) -> Path:
    """The folder of ``hf:FOLDER``, ``hf:OWNER/NAME[@REVISION]``, or of ``hf`` with ``weights``.

    Raises ``ReidpipeError`` when there is none, or when a hub model can be had neither from the
    cache nor from the hub.
    """
    given = kind.removeprefix(PREFIX) if kind.startswith(PREFIX) else ""
    if given and weights is not None:
        raise ReidpipeError(
            f"found weights {weights} beside parser '{kind}'; expected one of the two: its folder "
            "holds its weights; leave out --weights"
        )
    given = given or str(weights or "")
    if not given:
        raise ReidpipeError(
            f"found parser '{kind}' without a model; expected a folder or a hub id; "
            "type --model hf:FOLDER or --model hf:OWNER/NAME"
        )
    path = Path(given).expanduser()
    if path.is_dir():
        return path.resolve()
    hub_id = _ID.fullmatch(given)
    if hub_id is None or path.exists():
        raise ReidpipeError(
            f"found no folder {path}; expected a model in Hugging Face's layout (config.json "
            "beside its weights) or a hub id; type --model hf:FOLDER or --model hf:OWNER/NAME"
        )
    return _snapshot(hub_id["repo"], hub_id["revision"])


def read(folder: Path) -> Saved:
    """What a folder says about its model, checked as far as plain reading goes.

    Raises ``ReidpipeError`` for a folder without ``config.json``, a model of another task, labels
    shifted by ``do_reduce_labels``, or files that cannot be read.
    """
    if not (folder / CONFIG).is_file():
        raise ReidpipeError(
            f"found no {CONFIG} in folder {folder}; expected a model in Hugging Face's layout; "
            "type --model hf:FOLDER of a model saved with save_pretrained"
        )
    config = _json(folder / CONFIG)
    processor: Mapping[str, Any] = {}
    for name in PROCESSORS:
        if (folder / name).is_file():
            processor = _json(folder / name)
            # A processor of several kinds of input keeps the one of images inside.
            processor = processor.get("image_processor") or processor
            break
    saved = Saved(folder, config, processor)
    named = config.get("architectures") or ()
    for architecture in named if isinstance(named, list | tuple) else (named,):
        if not str(architecture).endswith(TASKS):
            raise ReidpipeError(
                f"found {architecture} in {folder}; expected a segmentation model "
                f"(...{', ...'.join(TASKS[:2])}); type --model hf: with a parser's folder or id"
            )
    for key in ("do_reduce_labels", "reduce_labels"):
        if processor.get(key):
            raise ReidpipeError(
                f"found {key} true in the image processor of {saved.name}; expected false: its "
                "labels are shifted by one and it knows no background; use another model"
            )
    return saved


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise ReidpipeError(
            f"found {path} that is no JSON ({error.__cause__}); "
            "expected what save_pretrained writes; copy the model again"
        ) from error
    if not isinstance(content, dict):
        raise ReidpipeError(
            f"found {path} without names and values; expected what save_pretrained writes; "
            "copy the model again"
        )
    return content


def _snapshot(repo: str, revision: str | None) -> Path:
    """The folder of a hub model in the hub's cache, downloaded when it is not there."""
    from huggingface_hub import errors, snapshot_download, try_to_load_from_cache

    # Of the HTTP library that this version uses, and of the other way to download: no OSError.
    unreached = [*errors.HfHubHTTPError.__bases__, getattr(errors, "XetDownloadError", OSError)]

    config = try_to_load_from_cache(repo, CONFIG, revision=revision)
    if isinstance(config, str) and _whole(Path(config).parent):
        return Path(config).parent

    def have(weights: str, *, local: bool) -> Path:
        patterns = [CONFIG, *PROCESSORS, *TOKENIZER, weights]
        return Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=patterns, local_files_only=local
            )
        )

    def either(*, local: bool) -> Path:
        folder = have("model*.safetensors*", local=local)
        if any((folder / name).is_file() for name in WEIGHTS):
            return folder
        return have("pytorch_model*.bin*", local=local)

    try:
        # A model without an image processor is whole too; the hub's cache knows.
        folder = either(local=True)
        if (folder / CONFIG).is_file() and _has_weights(folder):
            return folder
    except errors.LocalEntryNotFoundError:
        pass
    try:
        return either(local=False)
    except (OSError, ValueError, *unreached) as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ReidpipeError(
            f"found no model {repo} in the cache of the hub, and it could not be downloaded "
            f"({text[:160] or type(error).__name__}); expected a downloaded model or a connection; "
            f"type hf download {repo} where there is one, or --model hf:FOLDER"
        ) from error


def _whole(folder: Path) -> bool:
    return any((folder / name).is_file() for name in PROCESSORS) and _has_weights(folder)


def _has_weights(folder: Path) -> bool:
    """Whether there are weights, all that an index names: of a download that was killed some."""
    for name in (*WEIGHTS, *PICKLED_WEIGHTS):
        if (path := folder / name).is_file():
            named = _shards(path) if name.endswith(".index.json") else ()
            return all((folder / shard).is_file() for shard in named)
    return False

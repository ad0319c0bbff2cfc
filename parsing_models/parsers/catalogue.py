"""The parsers a command may name, and where their weights are. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parsing_models.parsers import hub
from parsing_models.parsers.label_names import target_set
from pipeline.artifacts.atomic import parse_json
from pipeline.labels.sets import LabelSet
from pipeline.plugins import Door
from pipeline.plugins.kinds import resolve
from pipeline.plugins.registry import Registered
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.options import FLAG, NUMBER, POSITIVE, SIZE, Option, check_option

EXACT = "exact"  # the one that reads maps and makes none
WEIGHTS_VARIABLE = "REIDPIPE_WEIGHTS"
WORKSPACE_VARIABLE = "REIDPIPE_WORKSPACE"
_PACKAGED = Path(__file__).resolve().parent.parent / "weights"

LABEL_SET = Option("the name of a label set", lambda value: isinstance(value, str | LabelSet))
LABEL_MAP = Option(
    "a table {their name: our name} or a JSON file",
    lambda value: isinstance(value, Mapping | str | Path),
)
SEMANTIC_WEIGHT = Option(
    "a number from 0 to 1 (negative: none), the one the weights were trained at",
    lambda value: NUMBER.fits(value) and value <= 1,
)
# Of a network's input: below, its deepest maps are empty; above, one image fills a machine.
LEAST_SCALE, GREATEST_SCALE = 0.1, 8.0
# Of the head of a safetensors file: what ours says of its training, and the parsers that read it.
_OURS, _SAYING = "reidpipe", ("schp", "schp-tiny")
_SIZED = {"input_size": SIZE, "memory_mib": POSITIVE}


Loader = Callable[..., Any]


@dataclass(frozen=True)
class Entry:
    """One kind of parser. files: names its weights go by; none where it needs none. loader:
    ``module:function`` (of a plugin the function itself), called as ``f(kind, weights, device=,
    options=) -> Parser``. options: what ``load_parser`` takes besides. source: where a user gets
    the weights; empty for those that ship with the package. licence: of the published weights.
    """

    kind: str
    files: tuple[str, ...]
    title: str
    loader: str | Loader
    options: Mapping[str, Option] = field(default_factory=dict)
    source: str = ""
    licence: str = "MIT"

    def load(self) -> Loader:
        """The loader, imported now."""
        return resolve(self.loader) if isinstance(self.loader, str) else self.loader


def _of_plugin(found: Registered, kind: str) -> Entry:
    """``@register.parser(kind, files=, title=, options=, source=, licence=)`` on a loader."""
    known = {"files", "title", "options", "source", "licence"}
    for name in found.about:
        if name not in known:
            raise ReidpipeError(
                f"found '{name}' of parser '{kind}' in plugin {found.plugin.reference}"
                f"{nearest(name, known)}; expected {', '.join(sorted(known))}; mend it"
            )
    about = {"files": (), "title": f"of plugin {found.plugin.reference}", **found.about}
    return Entry(kind, loader=found.thing, **about)


CATALOGUE = Door(
    "parser",
    {
        entry.kind: entry
        for entry in (
            Entry(
                "schp",
                (
                    "exp-schp-201908261155-lip.pth",
                    "exp-schp-201908301523-atr.pth",
                    "exp-schp-201908270938-pascal-person-part.pth",
                ),
                "SCHP (Li et al. 2019), ResNet-101",
                "parsing_models.parsers.schp:load_schp",
                {"label_set": LABEL_SET, **_SIZED},
                source=(
                    "exp-schp-201908261155-lip.pth (about 267 MB) from the authors' Google Drive, "
                    "linked at https://github.com/GoGoDuck912/Self-Correction-Human-Parsing"
                ),
            ),
            Entry(
                "schp-tiny",
                ("schp-tiny.safetensors",),
                "SCHP's network, small, trained here",
                "parsing_models.parsers.schp:load_schp",
                {"label_set": LABEL_SET, **_SIZED},
            ),
            Entry(
                "segformer-tiny",
                ("segformer-tiny.safetensors",),
                "SegFormer, small, trained here",
                "parsing_models.parsers.segformer:load_segformer_tiny",
                _SIZED,
            ),
            Entry(
                EXACT,
                (),
                "the dataset's own label maps, no network",
                "parsing_models.parsers.exact:load_exact",
                {"label_set": LABEL_SET},
                licence="the dataset's own",
            ),
            Entry(
                "solider",
                ("schp_4_checkpoint.pth.tar", "solider.safetensors"),
                "SOLIDER's parser (Chen et al. 2023), Swin",
                "parsing_models.parsers.solider:load_solider",
                {"semantic_weight": SEMANTIC_WEIGHT, "label_set": LABEL_SET, **_SIZED},
                source=(
                    "schp_4_checkpoint.pth.tar from your own training with "
                    "https://github.com/tinyvision/SOLIDER-HumanParsing (the authors publish "
                    "backbones only, no trained parser)"
                ),
                licence=(
                    "no published parser; its code is MIT, the backbones' repository Apache-2.0"
                ),
            ),
            Entry(
                "invpt",
                # The authors give no name in their text; this is the one to save it under.
                ("invpt.pth",),
                "InvPT (Ye and Xu 2022), ViT-L/16, seven parts",
                "parsing_models.parsers.invpt:load_invpt",
                {"label_set": LABEL_SET, "upscale": FLAG, "memory_mib": POSITIVE},
                source=(
                    "the PASCAL-Context model, linked in InvPT/README.md at "
                    "https://github.com/prismformore/Multi-Task-Transformer, saved as invpt.pth"
                ),
                licence="CC BY-NC 4.0",
            ),
        )
    },
    _of_plugin,
)
# Not in the catalogue: its weights are wherever its name says, so there is nothing to list.
HUGGING_FACE = Entry(
    hub.KIND,
    (hub.CONFIG,),
    "a segmentation model in Hugging Face's layout",
    "parsing_models.parsers.huggingface:load_huggingface",
    {"label_map": LABEL_MAP, "label_set": LABEL_SET, **_SIZED},
    source="a folder written by save_pretrained, or an id of https://huggingface.co/models",
    licence="the model's own",
)


def entry(kind: str, *, option: str = "--model") -> Entry:
    """The catalogue's entry; of ``hf:FOLDER`` and ``hf:OWNER/NAME`` the one of all such models,
    ``hf``. Raises ``ReidpipeError`` for a kind it does not hold. option: what the command at hand
    calls a parser, for the message."""
    if isinstance(kind, str) and hub.is_hub(kind):
        return HUGGING_FACE
    if kind not in CATALOGUE:
        raise ReidpipeError(
            f"found parser '{kind}'{nearest(str(kind), CATALOGUE)}; expected one of "
            f"{', '.join(CATALOGUE)}, hf:FOLDER, hf:OWNER/NAME; type {option} schp-tiny"
        )
    return CATALOGUE[kind]


def as_trained(
    kind: str, checkpoint: Path | None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The options of a parser with what the file of its weights says of its training, where ours
    wrote it: ``label_set``, and ``input_size`` unless it is typed. Raises ReidpipeError for a label
    set that is another.
    """
    given = dict(options or {})
    if kind not in _SAYING or checkpoint is None or checkpoint.suffix != ".safetensors":
        return given
    said = _said(checkpoint)
    for name, value in said.items():
        check_option(name, value, entry(kind).options, of=f"the weights {checkpoint}")
    if "label_set" in said and "label_set" in given:
        typed, known = (target_set(each["label_set"]) for each in (given, said))
        if typed.names != known.names:
            raise ReidpipeError(
                f"found label_set={typed.name} for weights trained on labels of {known.name} "
                f"({checkpoint}); expected no other; leave label_set out"
            )
    return said | given


def saying(options: Mapping[str, Any]) -> dict[str, str]:
    """What a file of weights says so that ``as_trained`` gives these options."""
    return {_OURS: json.dumps(dict(options), sort_keys=True)}


def _said(checkpoint: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, framework="np") as file:
            text = (file.metadata() or {}).get(_OURS, "{}")
        return dict(parse_json(text.encode()))
    except (OSError, SafetensorError):
        return {}  # whoever loads the weights says what is wrong with the file
    except (ValueError, TypeError) as error:
        raise ReidpipeError(
            f"found '{_OURS}' in the head of {checkpoint} that is no JSON of options; "
            "expected what parsing_models.training.published writes; train it again"
        ) from error


def check_scales(scales: Sequence[float], *, one_size: str = "") -> None:
    """Raises ReidpipeError unless there is a scale and every one is a sensible number. one_size: a
    parser's name whose network takes input of one size alone.
    """
    # Written so that a NaN, which compares with nothing, fails too.
    if not scales or not all(LEAST_SCALE <= scale <= GREATEST_SCALE for scale in scales):
        raise ReidpipeError(
            f"found scales '{','.join(map(str, scales))}'; expected numbers from {LEAST_SCALE:g} "
            f"to {GREATEST_SCALE:g}; type --scales 0.75,1.0"
        )
    if one_size and set(scales) != {1.0}:
        raise ReidpipeError(
            f"found scales '{','.join(map(str, scales))}' for {one_size}, whose network takes "
            "input of one size alone; expected 1.0; leave out other scales"
        )


def weights_file(
    kind: str,
    weights: Path | str | None = None,
    *,
    workspace: Path | str | None = None,
    option: str = "--model",
) -> Path | None:
    """The file with a parser's weights; the folder of a Hugging Face model; None for a parser that
    needs none (of a plugin, whose ``files`` are empty).

    ``weights``, when given, is the file, or a folder that holds it. Else ``$REIDPIPE_WEIGHTS``
    (file or folder), then ``weights/`` of the workspace (default: ``$REIDPIPE_WORKSPACE``, then
    ``./reid-workspace``). Weights that ship with the package need none of these. Raises
    ``ReidpipeError`` in one line when there are none; another network never takes the place.
    option: as of ``entry``; only beside ``--model`` is there ``--weights``.
    """
    found = entry(kind, option=option)
    if found is HUGGING_FACE:
        return hub.folder_of(kind, weights)
    if weights is not None:
        return _given(found, Path(weights).expanduser())
    if not found.files:
        return None
    if not found.source and isinstance(found.loader, str):
        return _PACKAGED / found.files[0]
    variable = os.environ.get(WEIGHTS_VARIABLE)
    if variable:
        path = Path(variable).expanduser()
        if path.is_file():
            return path
        if (named := _inside(found, path)) is not None:
            return named
    root = Path(workspace or os.environ.get(WORKSPACE_VARIABLE) or "reid-workspace")
    if (named := _inside(found, root / "weights")) is not None:
        return named
    cure = f"type --weights FILE (or set {WEIGHTS_VARIABLE})"
    if option != "--model":
        cure = f"set {WEIGHTS_VARIABLE} to it"
    raise ReidpipeError(
        f"found no weights for parser '{kind}'; expected {found.source or found.files[0]}; put the "
        "file into "
        f"{root / 'weights'}, or {cure}; {option} schp-tiny works now"
    )


def weights_parts(
    kind: str, checkpoint: Path | None, options: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """Name -> each file that changes what a parser makes of an image: ``weights_file``'s, or those
    of a Hugging Face model's folder, whose labels must fit the options."""
    if checkpoint is None:
        return {}
    if not hub.is_hub(kind):
        return {"weights": checkpoint}
    saved = hub.read(checkpoint)
    saved.table(options or {})
    return saved.files


def _inside(found: Entry, folder: Path) -> Path | None:
    return next((folder / name for name in found.files if (folder / name).is_file()), None)


def _given(found: Entry, path: Path) -> Path:
    if path.is_file():
        return path
    named = _inside(found, path)
    if named is None:
        state = f"no {' or '.join(found.files)} in folder" if path.is_dir() else "no file"
        raise ReidpipeError(
            f"found {state} {path}; expected weights of parser '{found.kind}'; "
            "type --weights FILE" + (f", the file being {found.source}" if found.source else "")
        )
    return named

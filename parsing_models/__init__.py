"""Images to label maps: published human parsers behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from parsing_models.parsers.interface import Parser


def load_parser(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    **options: Any,
) -> Parser:
    """A parser ready to use: ``load_parser("schp-tiny").parse(images)``.

    kind: ``schp`` (the published networks; LIP, ATR or Pascal, told apart by their class count),
    ``solider``, ``invpt``, ``hf:FOLDER`` or ``hf:OWNER/NAME``, and ``schp-tiny`` and
    ``segformer-tiny``, which ship with the package. weights: a file, a folder that holds it, or a
    state dict; None looks where ``parsing_models.parsers.catalogue.weights_file`` says. device:
    ``cpu``, ``cuda``, ``cuda:<n>`` or ``auto``. options: ``input_size`` (H, W), ``memory_mib``;
    ``label_set`` ("cihp" for a 20-class network trained on CIHP; files of
    ``parsing_models.training.published`` say it and their input size themselves); of solider
    ``semantic_weight``, required where the file does not say; of invpt ``upscale`` (False: the
    authors' own preprocessing, which pads and never resizes); of hf ``label_map`` ({their name:
    our name}, or a JSON file).
    Raises ``ReidpipeError`` for an unknown kind or option, missing weights, weights of another
    network, or a device that is not there.
    """
    from parsing_models.parsers.catalogue import entry
    from parsing_models.parsers.foreign import Foreign
    from parsing_models.parsers.hub import is_hub
    from parsing_models.parsers.interface import Parser
    from pipeline.terminal.errors import ReidpipeError
    from pipeline.terminal.options import check_option
    from reid_train.engine.runtime import Runtime

    found = entry(kind)
    for name, value in options.items():
        check_option(name, value, found.options, of=f"parser '{kind}'")
    parser = found.load()(kind, weights, device=device, options=options)
    if isinstance(parser, Parser):
        # Nobody has tried these.
        if "input_size" in options or is_hub(kind):
            parser.check(kind)
        return parser
    for field in ("label_set", "parse"):
        if not hasattr(parser, field):
            raise ReidpipeError(
                f"found parser '{kind}' without {field}; expected label_set and parse(images, "
                "size), as of parsing_models.parsers.interface.Parser; add it to the plugin"
            )
    # It has what the cache and its users ask of a Parser, and no network.
    return cast("Parser", Foreign(parser, kind, options, Runtime.create(device).device))

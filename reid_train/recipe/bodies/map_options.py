"""Options about label maps, which recipes that read none do not take."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.core import ParameterSource

from pipeline.terminal.errors import ReidpipeError

# Options about label maps, by the names of their parameters.
MAP_OPTIONS = {
    "parsing": "--parsing",
    "parsers": "--parsing",
    "label_map": "--label-map",
    "parser_settings": "--parsing-option",
}


def check_reads_maps(recipes: Sequence[str], settings: tuple[str, ...]) -> None:
    """Raise ReidpipeError where options about label maps were typed and no recipe reads any."""
    from reid_train.recipe.arguments import changed_recipe

    source = click.get_current_context().get_parameter_source
    typed = ParameterSource.COMMANDLINE
    given = dict.fromkeys(option for name, option in MAP_OPTIONS.items() if source(name) == typed)
    loaded = [changed_recipe(recipe, settings) for recipe in recipes] if given else []
    if given and not any(recipe.reads_maps for recipe in loaded):
        raise ReidpipeError(
            f"found {' and '.join(given)} for {', '.join(recipe.name for recipe in loaded)}, which "
            f"{'reads' if len(loaded) == 1 else 'read'} no label maps; expected a part-informed "
            "recipe, such as pi-vl-tiny; leave it out"
        )

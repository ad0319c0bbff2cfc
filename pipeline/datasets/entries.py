"""What fields of a manifest may hold: paths inside the dataset, and templates of known fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Base of all parts of a manifest: no unknown field, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _inside(path: str) -> str:
    parts = path.split("/")
    if path.startswith(("/", "~")) or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"found '{path}'; expected a path below the root, with /")
    return path


def _naming(*fields: str) -> Callable[[str], str]:
    """A check of templates: in braces stands one of ``fields``, or a name where none is given."""
    known = "|".join(fields) or r"\w+"

    def check(template: str) -> str:
        rest = re.sub(rf"\{{(?:{known})\}}", "", template)
        if "{" in rest or "}" in rest:
            wanted = " and ".join(f"{{{field}}}" for field in fields) or "names of groups"
            raise ValueError(f"found '{template}'; expected {wanted} alone in braces")
        return template

    return check


Inside = Annotated[str, AfterValidator(_inside)]
ImageTemplate = Annotated[str, AfterValidator(_inside), AfterValidator(_naming("path"))]
LabelTemplate = Annotated[str, AfterValidator(_inside), AfterValidator(_naming("stem"))]
Template = Annotated[str, AfterValidator(_naming())]
Lower = Annotated[str, AfterValidator(str.lower)]
AtLeastOne = Annotated[int, Field(ge=1)]
# Sides of an image, as Pillow takes them.
Side = Annotated[int, Field(ge=1, le=65535)]


def groups_of(rules: Iterable[str | None]) -> set[str]:
    """Names of all groups of some naming rules, of which one may be no expression."""
    return {name for rule in rules if rule for name in re.findall(r"\(\?P<(\w+)>", rule)}


def unknown_groups(templates: Iterable[str], known: set[str]) -> list[str]:
    """Fields of templates that are not among ``known``, sorted."""
    named = {name for template in templates for name in re.findall(r"\{(\w+)\}", template)}
    return sorted(named - known)

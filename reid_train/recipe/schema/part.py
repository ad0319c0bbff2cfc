"""What all parts of a recipe share: no unknown key, no infinity, no name in a key."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
# Pixels of an edge: more than any camera has.
Edge = Annotated[int, Field(ge=1, le=1 << 16)]


def finite(value: Any) -> Any:
    """``value`` itself. Raises ValueError when there is an infinity or NaN anywhere in it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("finite numbers")
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            finite(item)
    return value


def ascending(value: tuple[float, float]) -> tuple[float, float]:
    """``value`` itself. Raises ValueError for ends of a range that are the wrong way round."""
    if value[0] > value[1]:
        raise ValueError("the smaller one first")
    return value


Options = Annotated[dict[str, Any], AfterValidator(finite)]


def _may_be_bool(annotation: Any) -> bool:
    if annotation in (bool, Any) or isinstance(annotation, bool):
        return True
    return any(map(_may_be_bool, get_args(annotation)))


def _file_name(value: str) -> str:
    plain = value.isprintable() and not set(value) & set("/\\\0") and value.strip(". ")
    if not plain or len(value.encode()) > 100:
        raise ValueError("a name that can be a folder's: no slash, 1 to 100 bytes, not dots alone")
    return value


# Runs are folders that are called after their recipe.
RunName = Annotated[str, AfterValidator(_file_name)]


class Part(BaseModel):
    """Base of all parts of a recipe: no unknown key, no change after loading, no true for a 1, and
    no infinity or NaN, for which a key of an artifact has no text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)
    # Fields that decide no result: names, and what is told.
    UNKEYED: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and not _may_be_bool(field.annotation):
            raise ValueError("neither true nor false")
        return value

    def keyed(self) -> dict[str, Any]:
        """What stands in the key of a step, as JSON values: the fields that decide a result and are
        not at their default, so that a later field changes no key.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(self.UNKEYED))

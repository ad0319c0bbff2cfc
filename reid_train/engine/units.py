"""Whether a CPU has units for half precision, or computes it by detours slower than float32."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch

log = logging.getLogger(__name__)

# As ``torch.cpu.get_capabilities`` calls what multiplies such numbers, on x86 and ARM.
UNITS = {
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
# What oneDNN may be told to leave unused, and the words for those that have the units.
LIMIT = "ONEDNN_MAX_CPU_ISA"
_WITH_UNITS = {"bf16": ("BF16", "FP16", "AMX", "AVX10"), "fp16": ("FP16", "AMX", "AVX10")}


def has_units(precision: str, capabilities: Mapping[str, Any] | None = None) -> bool:
    """Whether this CPU multiplies ``bf16`` or ``fp16`` itself; True for every other precision.

    Without, the library of convolutions and products converts, or falls back to plain loops: a
    network takes several times as long as in float32. The environment's ``ONEDNN_MAX_CPU_ISA``,
    which keeps that library from using them, counts. capabilities: by default this CPU's, as
    ``torch.cpu.get_capabilities`` gives them.
    """
    if precision not in UNITS:
        return True
    found = _capabilities() if capabilities is None else capabilities
    limit = os.environ.get(LIMIT, "").upper()
    if limit not in ("", "ALL", "DEFAULT") and not any(
        word in limit for word in _WITH_UNITS[precision]
    ):
        return False
    return any(found.get(name, False) for name in UNITS[precision])


def computed_in(precision: str) -> str:
    """What a CPU computes in where ``precision`` is asked for: fp32 where it has no units for that,
    and a warning is logged.
    """
    if has_units(precision):
        return precision
    log.warning(
        "this CPU has no units for %s, which would take several times as long as fp32: computing "
        "in fp32",
        precision,
    )
    return "fp32"


def _capabilities() -> Mapping[str, Any]:
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    cpu: Any = torch.cpu  # of older versions: x86 alone
    return {
        "avx512_bf16": cpu._is_avx512_bf16_supported(),
        "amx_bf16": cpu._is_amx_tile_supported(),
        "amx_fp16": cpu._is_amx_fp16_supported(),
    }

"""A GPU that is not there: tensors that say they lie on one, compute on the CPU, and refuse what a
GPU refuses. Mistakes that tests on a CPU cannot see are seen: tensors of two devices in one
operation, a CPU's generator for the GPU's numbers, numpy of a tensor that is elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "gpu"
LIBRARY, ANY = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
aten = torch.ops.aten
# Whose tensors may lie apart: copies, and what takes its indices from a CPU.
COPIES = {aten.copy_, aten._to_copy, aten.to, aten.set_}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
           aten._index_put_impl_.default, aten._unsafe_index.Tensor}  # fmt: skip
# What CUDA's autocast computes in half precision, and in float32 (torch's own lists, as far as the
# project goes).
HALF = (
    "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d.input", "prelu", "addmm", "matmul",
    "einsum", "mm", "mv", "linear", "baddbmm", "bmm", "scaled_dot_product_attention",
)  # fmt: skip
FULL = (
    "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "pow.Tensor_Scalar",
    "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm", "group_norm",
    "cosine_similarity", "nll_loss", "nll_loss2d", "kl_div", "l1_loss", "smooth_l1_loss",
    "mse_loss", "binary_cross_entropy_with_logits", "cdist", "logsumexp", "softmax.int",
    "log_softmax.int", "cumsum", "cumprod", "prod", "sum", "sum.dim_IntList", "norm.Scalar",
    "norm.ScalarOpt_dim", "linalg_vector_norm", "upsample_bilinear2d", "upsample_linear1d",
)  # fmt: skip
# The host waits for the device.
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten._unique2.default,
         aten.equal.default, aten.unique_dim.default, aten.is_nonzero.default,
         aten.masked_select.default}  # fmt: skip


class There(Tensor):
    """A tensor on the device ``NAME``, whose values lie in ``inner``."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=torch.device(NAME, 0), requires_grad=inner.requires_grad,
        )  # fmt: skip

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self, **_: Any) -> str:
        return f"There({self.inner!r})"

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)  # files are read to a CPU

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, Counter())


class Pretended(TorchDispatchMode):
    """Makes tensors on the device ``NAME`` where they are asked for; ``waits`` counts by operation
    how often the host waited for a value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {}, self.waits)


def computed(func: Any, args: Any, kwargs: dict[str, Any], waits: Counter[str]) -> Any:
    """One operation. Raises RuntimeError where a GPU would."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [value for value in flat if isinstance(value, Tensor)]
    there = [value for value in tensors if isinstance(value, There)]
    asked = next((value for value in flat if isinstance(value, torch.device)), None)
    goes = asked.type == NAME if asked is not None else bool(there)
    # A number on the CPU goes with everything.
    here = [value for value in tensors if not isinstance(value, There) and value.ndim]
    copies = func.overloadpacket in COPIES
    if there and here and not copies:
        first = tensors[0]
        if func not in INDEXED or not isinstance(first, There):
            shapes = [(tuple(t.shape), t.device.type) for t in tensors]
            raise RuntimeError(f"{func}: tensors on two devices, {shapes}")
    generator = next((value for value in flat if isinstance(value, torch.Generator)), None)
    if generator is not None and goes:
        raise RuntimeError(f"{func}: a generator of the CPU for numbers of the GPU")
    masked = func in INDEXED and any(t.dtype == torch.bool for t in tensors[1:])
    fetched = copies and there and not (goes if asked is not None else isinstance(args[0], There))
    if there and (func in WAITS or masked or fetched):
        waits[str(func)] += 1
    inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
    found = func(*inner_args, **inner_kwargs)
    if not goes:
        return found
    wrapped = tree_map(lambda v: There(v) if isinstance(v, Tensor) else v, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


def _inner(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inner if isinstance(value, There) else value


def begin() -> None:
    """Tell torch that there is such a device; for the rest of the process."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    key = "AutocastPrivateUse1"
    ANY.fallback(torch.library.fallthrough_kernel, key)
    for names, dtype in ((HALF, None), (FULL, torch.float32)):
        for name in names:
            packet, _, overload = name.partition(".")
            operation = getattr(getattr(aten, packet), overload or "default")
            LIBRARY.impl(name, partial(_cast, operation, dtype), key)


def _cast(operation: Any, dtype: torch.dtype | None, *args: Any, **kwargs: Any) -> Any:
    """What autocast does of CUDA: float32 and less is taken to ``dtype``, None its own."""
    target = dtype or torch.get_autocast_dtype(NAME)

    def cast(value: Any) -> Any:
        eligible = isinstance(value, There) and value.is_floating_point()
        return value.to(target) if eligible and value.dtype != torch.float64 else value

    key = torch._C.DispatchKeySet(torch._C._dispatch_key_parse("AutocastPrivateUse1"))
    with torch._C._ExcludeDispatchKeyGuard(key):
        return operation(*tree_map(cast, args), **tree_map(cast, kwargs))


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


@contextmanager
def gpu() -> Iterator[Pretended]:
    """Inside, and in this thread, the device ``NAME`` can be used as if there were one, by what
    torch does with tensors; CUDA's own functions (streams, generators, memory) it is not asked for.
    Once ``begin`` was called.
    """
    # torch.tensor(..., device=GPU) then asks the mode too.
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with Pretended() as mode:
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(before)

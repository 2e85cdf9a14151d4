"""Stand-ins for GPUs: tensors that say they lie on one, and refuse to be mixed with those of another device.

Their numbers are kept and computed on the CPU, so what a model gives on them are the bits that it gives there. As on
true devices an operation takes tensors of one device only, but for numbers without dimensions and for index tensors on
the CPU, and what it makes lies on that device. They are called `meta:0`, `meta:1` …: that is the one kind of device
without numbers of its own which every build of torch lets tensors lie on; so no model can be loaded meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

MOVES = ("aten::_to_copy", "aten::to", "aten::copy_")
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select")
"""What makes the host wait for a number or a size."""
waits: Counter[str] = Counter()
"""How often host and device met: `out`, a tensor copied to the host; `in`, to the device; `read`, a value asked for."""


class Elsewhere(Tensor):
    """A tensor on a device that isn't there."""

    kept: Tensor

    @staticmethod
    def __new__(cls, kept: Tensor, device: torch.device) -> Any:
        """Looks like `kept`, on `device`."""
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            kept.shape,
            strides=kept.stride(),
            storage_offset=kept.storage_offset(),
            dtype=kept.dtype,
            device=device,
            requires_grad=False,
        )

    def __init__(self, kept: Tensor, _device: torch.device) -> None:
        self.kept = kept

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.kept!r} on {self.device}"

    def tolist(self) -> Any:
        """As on a true device: copied to the CPU first."""
        return self.to("cpu").tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on what is kept, its results on the device of its arguments, or on the one it was asked for."""
    name = func._schema.name
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    there = {one.device for one in tensors if isinstance(one, Elsewhere)}
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    if name not in MOVES:
        plain = [one for one in tensors if not isinstance(one, Elsewhere) and one.numel()]
        mixed = there and any(one.dim() and "index" not in name for one in plain)
        if len(there) > 1 or mixed:
            found = sorted({str(one.device) for one in tensors})
            raise RuntimeError(f"{name}: expected all tensors on one device, found {', '.join(found)}")
    target = asked if asked is not None else next(iter(there), None)
    if name == "aten::copy_":
        target = args[0].device
    _count(name, tensors, target)
    kept_args, kept_kwargs = tree_map_only(Tensor, _kept, (args, dict(kwargs)))
    if asked is not None:
        kept_kwargs["device"] = torch.device("cpu")
    result = func(*kept_args, **kept_kwargs)
    if target is None or target.type == "cpu":
        return result
    if func._schema.is_mutable:
        return args[0]
    return tree_map_only(Tensor, lambda one: Elsewhere(one, target), result)


def _count(name: str, tensors: list[Tensor], target: torch.device | None) -> None:
    elsewhere = [isinstance(one, Elsewhere) for one in tensors]
    masks = any(isinstance(one, Elsewhere) and one.dtype == torch.bool for one in tensors[1:])
    if name in MOVES and target is not None:
        source = tensors[-1]
        if isinstance(source, Elsewhere) and target.type == "cpu":
            waits["out"] += 1
        elif not isinstance(source, Elsewhere) and target.type != "cpu" and source.numel():
            waits["in"] += 1
    elif any(elsewhere) and (name in READS or (masks and name.startswith("aten::index"))):
        waits["read"] += 1


def _kept(one: Tensor) -> Tensor:
    # torch.tensor([], device=…) is made without asking anybody.
    return one.kept if isinstance(one, Elsewhere) else torch.empty_like(one, device="cpu") if one.is_meta else one


@contextmanager
def made_there() -> Iterator[None]:
    """While it is open, `torch.tensor([...], device=...)` makes stand-ins too: it asks no dispatcher."""
    real = torch.tensor

    def tensor(data: Any, *, device: Any = None, **more: Any) -> Tensor:
        made = real(data, **more)
        return made if device is None else made.to(device)

    torch.tensor = tensor
    try:
        yield
    finally:
        torch.tensor = real


class Devices(TorchDispatchMode):
    """While it is open, plain tensors can be moved to devices that aren't there, and made on them."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        return run(func, args, kwargs or {})

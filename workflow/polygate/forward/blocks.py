"""Where the decoder blocks of a transformers model are, and which residual stream they pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polygate.errors import PolygateError

if TYPE_CHECKING:
    from torch import nn


def decoder_blocks(model: Any, where: object = None) -> tuple[nn.Module, ...]:
    """The decoder's blocks: of a wrapper, those of its language model, never of its vision or audio tower.

    Raises `PolygateError`, naming `where` the model is from, when there is no list of as many as its configuration
    says.
    """
    from torch import nn

    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for _, module in model.get_decoder().named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return tuple(module)
    raise PolygateError(f"{type(model).__name__} has no list of {count} decoder blocks", where=where)


def stream_of(model: Any) -> int | None:
    """Which of several parallel residual streams (Gemma 3n) attention and feed-forward layers read; None for one."""
    found: int | None = getattr(model.config.get_text_config(decoder=True), "altup_active_idx", None)
    return found

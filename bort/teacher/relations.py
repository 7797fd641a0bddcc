"""The last layer's queries, keys and values, found by the names that transformers' encoders give their projections."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_APART = (
    ("query", "key", "value"),
    ("q", "k", "v"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
)
#: One matrix for all three, its rows in this order.
_FUSED = "Wqkv"


class Projections:
    """The three projections of an encoder's last attention.

    Where positions are rotary or relative, queries and keys are those before positions come in: a student of another kind of
    positions can imitate only these.

    Attributes:
        first: The module whose input all three project.
    """

    def __init__(self, modules: tuple[nn.Linear, ...]) -> None:
        self._modules = modules
        self.first = modules[0]

    def __call__(self, layer_input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values, [B, S, H] each, of the projections' input [B, S, H]."""
        if len(self._modules) == 1:
            query, key, value = self._modules[0](layer_input).chunk(3, dim=-1)
        else:
            query, key, value = (module(layer_input) for module in self._modules)
        return query, key, value


def find_projections(encoder: Any) -> Projections | None:
    """Returns the projections of the encoder's last attention, or nothing where they have names that are not known."""
    found: tuple[nn.Linear, ...] | None = None
    for module in encoder.modules():
        children = dict(module.named_children())
        for names in (*_APART, (_FUSED,)):
            linear = tuple(child for name in names if isinstance(child := children.get(name), nn.Linear))
            if len(linear) == len(names) and (len(linear) > 1 or linear[0].out_features % 3 == 0):
                # Layers are registered from the first to the last.
                found = linear
    return Projections(found) if found else None

"""Logits kept in part: the largest ones, a sample of the others, and the mass of both, so that a loss is unbiased on average.

Of a row of logits z the classes of the k largest are kept as they are. Of the others, whose probabilities p at temperature T sum to
the tail's mass m, s are drawn with probability p/m each: by systematic sampling, one uniform number a row and equal strides from it
through the cumulated probabilities, so that a class is drawn s·p/m times on average. In the sum over classes Σ p·f that a soft
cross-entropy is, the k enter with p and each draw with m/s. Its expectation is the exact sum, whatever f is: the loss and its
gradient are unbiased, where dropping the tail would teach a student that rare tokens never come. At another temperature t a draw's
weight is p_t·m/(s·p_T), unbiased as well. (Anshumann et al. 2025, arXiv:2503.16870, draw every class so.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bort.errors import ConfigurationError

_CHUNK = 256


@dataclass(frozen=True)
class SparseLogits:
    """The kept part of rows of logits.

    Args:
        ids: Classes, int64 [*, k + s]: the k largest in falling order, then the draws.
        values: Their logits minus the row's largest, float32 [*, k + s].
        summary: Float32 [*, 4]: log Σ exp(z/T) and log Σ exp(z) with z less its largest, m, and the label's logit likewise.
        top: k.
        temperature: T.
    """

    ids: Tensor
    values: Tensor
    summary: Tensor
    top: int
    temperature: float

    def log_probabilities(self, temperature: float) -> Tensor:
        """Returns the log-probabilities [*, k + s] of the kept classes at T or at 1.

        Raises:
            ConfigurationError: Neither of the two is asked for.
        """
        check_temperature({"temperature": self.temperature}, temperature)
        at = 0 if temperature == self.temperature else 1
        return self.values / temperature - self.summary[..., at, None]

    def weights(self, temperature: float) -> Tensor:
        """Returns the weights [*, k + s] with which the kept classes stand for all of them at T or at 1."""
        own = self.log_probabilities(self.temperature)
        wanted = own if temperature == self.temperature else self.log_probabilities(temperature)
        mass = self.summary[..., 2, None] / max(1, self.ids.shape[-1] - self.top)
        return torch.cat([wanted[..., : self.top].exp(), mass * (wanted - own)[..., self.top :].exp()], dim=-1)

    def label_surprise(self) -> Tensor:
        """Returns minus the log-probability [*] that the teacher gave the masked token, in nats."""
        return self.summary[..., 1] - self.summary[..., 3]


def check_temperature(identity: Mapping[str, Any], temperature: float) -> None:
    """Refuses a temperature that the weights of kept logits cannot be had for; exact logits serve any.

    Args:
        identity: What the soft targets are bound to; of ``topk`` ones it names a ``temperature``.
        temperature: That of the loss.

    Raises:
        ConfigurationError: It is neither theirs nor 1.
    """
    own = identity.get("temperature", temperature)
    if temperature not in (own, 1.0):
        accepted = f"1 or {own:g}: the cached topk targets were drawn for {own:g} (targets.temperature)"
        raise ConfigurationError("loss.temperature", temperature, accepted)


def sparsify(logits: Tensor, labels: Tensor, uniforms: Tensor, top: int, samples: int, temperature: float) -> SparseLogits:
    """Keeps a part of rows of logits.

    Args:
        logits: [N, V].
        labels: The masked tokens, int64 [N].
        uniforms: A uniform number from 0 to 1 for each row, float64 [N].
        top: k, at least 1 and less than V.
        samples: s, at least 1.
        temperature: T.
    """
    parts = [
        _sparsify(*rows, top, samples, temperature)
        for rows in zip(logits.split(_CHUNK), labels.split(_CHUNK), uniforms.split(_CHUNK), strict=True)
    ]
    ids, values, summary = (torch.cat(part) for part in zip(*parts, strict=True))
    return SparseLogits(ids, values, summary, top, temperature)


def _sparsify(
    logits: Tensor, labels: Tensor, uniforms: Tensor, top: int, samples: int, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    # The draws are as exact as the cumulated sum that they are taken from.
    values = logits.double()
    values = values - values.max(dim=-1, keepdim=True).values
    largest, classes = values.topk(top, dim=-1)
    normaliser = torch.logsumexp(values / temperature, dim=-1)
    tail = (values / temperature - normaliser[:, None]).exp().scatter(1, classes, 0.0)
    cumulated = tail.cumsum(dim=-1)
    mass = cumulated[:, -1:]
    strides = (torch.arange(samples, dtype=torch.float64, device=logits.device) + uniforms.to(logits.device)[:, None]) / samples
    # Below the whole mass, so that the class found is one that has a share in it.
    points = torch.minimum(strides * mass, torch.nextafter(mass, torch.zeros_like(mass)))
    drawn = torch.searchsorted(cumulated, points, right=True).clamp_(max=values.shape[-1] - 1)
    summary = torch.stack(
        [normaliser, torch.logsumexp(values, dim=-1), mass[:, 0], values.gather(1, labels.to(logits.device)[:, None])[:, 0]], dim=-1
    )
    kept = torch.cat([largest, values.gather(1, drawn)], dim=-1)
    return torch.cat([classes, drawn], dim=-1), kept.float(), summary.float()

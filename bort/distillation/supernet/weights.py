"""A weight-sharing student: one bank of weights, of which every shape of a space is a slice that transformers can compute.

The slice of ⟨D, A, H, I⟩ is a stock model of that shape, whose weights are read from the bank:

- depth: D layers spread evenly over the bank's, its last always among them;
- hidden size: the first H coordinates of the residual stream, in embeddings, layer norms, inputs and outputs alike. A layer norm
  takes its mean and variance over these H coordinates, as that of a stock model does;
- heads: the bank holds the most heads and the largest head dimension of the space. A slice has its first A heads, and of each the
  first H/A dimensions, so that a head stays the same head whatever H is;
- intermediate size: the first I units.

Nothing is masked: the computation is that of the stock model, on tensors that happen to be views of larger ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bort.architecture import Architecture
from bort.distillation.config import StudentConfig
from bort.distillation.student import StudentModel, build_student, principal_directions, project_embeddings

if TYPE_CHECKING:
    from bort.teacher.model import Teacher

#: The axes of each parameter, by the end of its name in transformers' BERT and RoBERTa; the first that fits counts.
_AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("_embeddings.weight", ("rows", "hidden")),
    ("self.query.weight", ("heads", "hidden")),
    ("self.key.weight", ("heads", "hidden")),
    ("self.value.weight", ("heads", "hidden")),
    ("self.query.bias", ("heads",)),
    ("self.key.bias", ("heads",)),
    ("self.value.bias", ("heads",)),
    ("attention.output.dense.weight", ("hidden", "heads")),
    ("intermediate.dense.weight", ("intermediate", "hidden")),
    ("intermediate.dense.bias", ("intermediate",)),
    ("output.dense.weight", ("hidden", "intermediate")),
    ("projection.weight", ("rows", "hidden")),
    ("projection.bias", ("rows",)),
    ("predictions.bias", ("rows",)),
    ("lm_head.bias", ("rows",)),
    ("dense.weight", ("hidden", "hidden")),
    ("dense.bias", ("hidden",)),
    ("orm.weight", ("hidden",)),
    ("orm.bias", ("hidden",)),
)


@dataclass(frozen=True)
class Extent:
    """How large the bank is in each direction.

    Args:
        depth: Layers.
        heads: Heads.
        head_size: Dimensions of a head.
        hidden: Width of the residual stream.
        intermediate: Units of the feed-forward layer.
    """

    depth: int
    heads: int
    head_size: int
    hidden: int
    intermediate: int

    @classmethod
    def of(cls, shapes: Sequence[Architecture]) -> Extent:
        """Return the extent that holds every shape."""
        return cls(
            max(shape.depth for shape in shapes),
            max(shape.heads for shape in shapes),
            max(shape.hidden // shape.heads for shape in shapes),
            max(shape.hidden for shape in shapes),
            max(shape.intermediate for shape in shapes),
        )

    def layer(self, number: int, depth: int) -> int:
        """Return the bank's layer that is layer ``number`` of a slice with ``depth`` layers."""
        return (number + 1) * self.depth // depth - 1


class Supernet(nn.Module):
    """The bank of weights, and the slices that read it.

    Args:
        shapes: The shapes that must be slices of it.
        teacher: Gives family, vocabulary and positions, and the start of the embeddings where the configuration says so.
        config: Initialisation and dropout. Where embeddings start from the teacher's, the first H coordinates hold its H principal
            directions for every hidden size H of the space; layers start from random weights.
        seed: Seeds the weights; torch's global generator is left as it was.
        project: Whether hidden states are compared with the teacher's, which needs a projection.
    """

    def __init__(
        self, shapes: Sequence[Architecture], teacher: Teacher, config: StudentConfig, *, seed: int, project: bool = False
    ) -> None:
        super().__init__()
        self.extent = Extent.of(shapes)
        self.largest = max(shapes, key=lambda shape: (shape.encoder_parameters(), shape))
        self.smallest = min(shapes, key=lambda shape: (shape.encoder_parameters(), shape))
        self._teacher, self._config, self._project = teacher, replace(config, initialisation="random"), project
        # Not registered as modules: they own no weights.
        self._networks: dict[Architecture, tuple[StudentModel, list[_Place]]] = {}
        self.bank = nn.ParameterDict(self._start(shapes, config, seed))

    @property
    def model(self) -> Any:
        """The transformers model of the largest slice."""
        return self.network(self.largest).model

    def network(self, shape: Architecture) -> StudentModel:
        """Return the slice of a shape: a student without weights of its own, whose gradients reach the bank."""
        if shape not in self._networks:
            hollow = self._stock(shape, "meta")
            places = _places(hollow, shape, self.extent)
            _empty(hollow, places, self._stock(self.smallest, "cpu"))
            self._networks[shape] = hollow, places
        network, places = self._networks[shape]
        slices = {name: self.slice(name, shape) for name in {place.name for place in places}}
        for place in places:
            setattr(place.module, place.leaf, slices[place.name])
        return network.to(next(self.parameters()).device).train(self.training)

    def extract(self, shape: Architecture) -> StudentModel:
        """Return a student of a shape with a copy of its slice's weights."""
        student = self._stock(shape, "cpu")
        with torch.no_grad():
            for place in _places(student, shape, self.extent):
                getattr(place.module, place.leaf).copy_(self.slice(place.name, shape))
        return student

    def slice(self, name: str, shape: Architecture) -> Tensor:
        """Return the part of the bank's parameter ``name`` that belongs to a shape."""
        whole: Tensor = self.bank[name.replace(".", "/")]
        wide: list[int] = []
        cut: list[slice] = []
        narrow: list[int] = []
        for size, axis in zip(whole.shape, axes_of(name), strict=True):
            if axis == "heads":
                wide += [self.extent.heads, self.extent.head_size]
                cut += [slice(shape.heads), slice(shape.hidden // shape.heads)]
                narrow.append(shape.hidden)
            else:
                kept = {"hidden": shape.hidden, "intermediate": shape.intermediate}.get(axis, size)
                wide.append(size)
                cut.append(slice(kept))
                narrow.append(kept)
        return whole.view(wide)[tuple(cut)].reshape(narrow)

    def _stock(self, shape: Architecture, device: str) -> StudentModel:
        with torch.device(device):
            return build_student(shape, self._teacher, self._config, seed=0, project=self._project)

    def _start(self, shapes: Sequence[Architecture], config: StudentConfig, seed: int) -> dict[str, nn.Parameter]:
        """Return the bank's weights before training."""
        extent = self.extent
        widths = {
            "heads": extent.heads * extent.head_size,
            "hidden": extent.hidden,
            "intermediate": extent.intermediate,
        }
        # A stock model of one head stands for the names; what depends on heads is sized here.
        stock = self._stock(Architecture(extent.depth, 1, extent.hidden, extent.intermediate), "meta")
        spread = stock.model.config.initializer_range
        generator = torch.Generator().manual_seed(seed)
        weights: dict[str, nn.Parameter] = {}
        for name, parameter in stock.named_parameters():
            size = [widths.get(axis, rows) for axis, rows in zip(axes_of(name), parameter.shape, strict=True)]
            if len(size) > 1:
                value = torch.randn(size, generator=generator) * (spread if "projection" not in name else size[1] ** -0.5)
            else:
                value = torch.ones(size) if name.endswith("orm.weight") else torch.zeros(size)
            weights[name.replace(".", "/")] = nn.Parameter(value)
        padding = stock.encoder.embeddings.word_embeddings.padding_idx
        with torch.no_grad():
            if padding is not None:
                _word_embeddings(weights)[padding] = 0.0
            if config.initialisation == "teacher":
                self._start_from_teacher(weights, sorted({shape.hidden for shape in shapes}), generator)
        return weights

    def _start_from_teacher(self, weights: dict[str, nn.Parameter], widths: list[int], generator: torch.Generator) -> None:
        """Puts the teacher's embeddings into the bank, so that those of every slice are the best of its width."""
        stock = self._stock(Architecture(1, 1, self.extent.hidden, 1), "cpu")
        theirs = self._teacher.encoder.embeddings
        mine = stock.encoder.embeddings
        mine.word_embeddings.weight.copy_(_word_embeddings(weights))

        def nested(words: Tensor) -> Tensor:
            directions = principal_directions(words, self.extent.hidden)
            columns = []
            for first, last in zip([0, *widths], widths, strict=False):
                # Within a group the variance is spread evenly by a rotation; between groups nothing is mixed.
                rotation, _ = torch.linalg.qr(torch.randn(last - first, last - first, generator=generator))
                kept = directions[:, first:last]
                columns.append(kept @ rotation[: kept.shape[1]])
            return torch.cat(columns, dim=1)

        project_embeddings(mine, theirs, nested)
        for name, value in stock.encoder.embeddings.named_parameters():
            for key, parameter in weights.items():
                if key.endswith("embeddings/" + name.replace(".", "/")):
                    parameter.copy_(value)


def axes_of(name: str) -> tuple[str, ...]:
    """Return the axes of a parameter: ``hidden``, ``heads``, ``intermediate``, or ``rows`` where it is never cut."""
    return next(axes for end, axes in _AXES if name.endswith(end))


def _word_embeddings(weights: dict[str, nn.Parameter]) -> nn.Parameter:
    return next(parameter for name, parameter in weights.items() if name.endswith("word_embeddings/weight"))


@dataclass(frozen=True)
class _Place:
    """Where a network keeps a weight: the module, the attribute, and the weight's name in the bank."""

    module: nn.Module
    leaf: str
    name: str


def _places(network: StudentModel, shape: Architecture, extent: Extent) -> list[_Place]:
    """Return every place of a network's weights; a weight that is tied to another goes by the other's name."""
    first: dict[int, str] = {}
    found = []
    for name, parameter in network.named_parameters(remove_duplicate=False):
        path, _, leaf = name.rpartition(".")
        known = first.setdefault(id(parameter), name)
        head, mark, rest = known.partition(".layer.")
        if mark:
            number, _, tail = rest.partition(".")
            known = f"{head}{mark}{extent.layer(int(number), shape.depth)}.{tail}"
        found.append(_Place(network.get_submodule(path), leaf, known))
    return found


def _empty(network: StudentModel, places: Sequence[_Place], real: StudentModel) -> None:
    """Takes a network's weights away, so that slices can stand in their places, and gives it the buffers of a real one."""
    for place in places:
        del place.module._parameters[place.leaf]
    for name, buffer in real.named_buffers():
        path, _, leaf = name.rpartition(".")
        network.get_submodule(path)._buffers[leaf] = buffer

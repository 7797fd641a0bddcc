"""An encoder with a head for a task: loading, fresh weights, frozen bottoms, saving."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bort.errors import BortError, ConfigurationError, first_line
from bort.files import atomic_path, read_json, write_json
from bort.model_facts import is_multiple_choice, usable_positions
from bort.quiet import quiet
from bort.tasks.label_encoding import label_order
from bort.tasks.task import Task

#: Marks a directory whose model no class of transformers expresses.
_APART = "classifier.json"
#: Key of a model's configuration with the task it was fine-tuned for.
ORIGIN = "bort_task"


class MeanClassifier(nn.Module):
    """A linear head on the mean of an encoder's last hidden states over all tokens that are not padding.

    Args:
        encoder: A base model of transformers.
        outputs: Logits of the head.
        dropout: Probability before the head.
    """

    def __init__(self, encoder: Any, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, outputs)

    @property
    def base_model(self) -> Any:
        """The encoder, under the name that transformers gives it."""
        return self.encoder

    @property
    def config(self) -> Any:
        """The encoder's configuration."""
        return self.encoder.config

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return logits, [B, outputs]."""
        hidden = self.encoder(**inputs).last_hidden_state
        weights = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return self.classifier(self.dropout((hidden * weights).sum(1) / weights.sum(1)))


@dataclass(frozen=True)
class LoadedEncoder:
    """A model with a head that has not been trained, and its tokenizer.

    Args:
        model: A sequence classifier or multiple-choice model of transformers, or a :class:`MeanClassifier`.
        tokenizer: Its tokenizer.
        fresh: Names of the parameters that the directory did not hold: the head, and BERT's pooler where it was missing.
    """

    model: Any
    tokenizer: Any
    fresh: frozenset[str]


def load_encoder(model_dir: str | Path, task: Task, pooling: str) -> LoadedEncoder:
    """Load any encoder of transformers and puts an untrained head for the task on it.

    Args:
        model_dir: A directory in transformers layout, or a hub id.
        task: Determines the outputs of the head and their names.
        pooling: ``first`` or ``mean``; see :class:`bort.finetuning.config.FinetuningConfig`.

    Raises:
        BortError: There is no such model, it cannot be read, or weights of the encoder itself are missing.
    """
    from transformers import AutoModel, AutoModelForMultipleChoice, AutoModelForSequenceClassification, AutoTokenizer

    names = dict(enumerate(task.labels)) or {0: "score"}
    settings = {
        "num_labels": task.outputs,
        "id2label": names,
        "label2id": {name: index for index, name in names.items()},
        # What the stock classes make of labels; they have no name for scores of options.
        "problem_type": {"regression": "regression", "classification": "single_label_classification"}.get(task.kind),
    }
    kind = AutoModelForMultipleChoice if task.kind == "choice" else AutoModelForSequenceClassification
    kind = AutoModel if pooling == "mean" else kind
    with quiet("transformers"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
            model, report = kind.from_pretrained(
                model_dir,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                trust_remote_code=False,
                **settings,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = first_line(error)
            raise BortError(f"The model '{model_dir}' cannot be loaded for fine-tuning: {reason.rstrip('.')}.") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _padding(tokenizer, getattr(model.config, "pad_token_id", None))
    if tokenizer.pad_token_id is None:
        raise BortError(f"The tokenizer of '{model_dir}' has no padding token, which batches of texts need.")
    _agree_on_types(tokenizer, model)
    setattr(model.config, ORIGIN, {"name": task.name, "kind": task.kind, "labels": list(task.labels)})
    fresh = set(report["missing_keys"]) | {item[0] if isinstance(item, tuple) else item for item in report["mismatched_keys"]}
    if pooling == "mean":
        dropout = getattr(model.config, "hidden_dropout_prob", 0.1)
        model = MeanClassifier(model, task.outputs, dropout)
        fresh = {f"encoder.{name}" for name in fresh}
    base = {f"{_prefix(model)}.{name}" for name, _ in model.base_model.named_parameters()}
    lost = sorted(name for name in fresh & base if "pooler" not in name)
    if lost:
        raise BortError(f"The model '{model_dir}' lacks weights of its encoder ({lost[0]} and {len(lost) - 1} more): is it whole?")
    # Whatever is not the encoder is the head of another task: it starts anew, so that no order of labels is inherited.
    fresh = (fresh & base) | {name for name, _ in model.named_parameters() if name not in base}
    return LoadedEncoder(model, tokenizer, frozenset(fresh))


def _agree_on_types(tokenizer: Any, model: Any) -> None:
    """Keep a tokenizer from giving token types to a model that has a single one, or none."""
    heard = "token_type_ids" in inspect.signature(model.base_model.forward).parameters
    if not heard or getattr(model.config, "type_vocab_size", 2) < 2:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]


def _padding(tokenizer: Any, wanted: int | None) -> str | None:
    """Return the token that batches are filled up with where the tokenizer names none: nothing attends to it, so any will do.

    The model's own comes first: some count positions from it.
    """
    own = tokenizer.convert_ids_to_tokens(wanted) if wanted is not None and 0 <= wanted < len(tokenizer) else None
    return own or tokenizer.eos_token or tokenizer.sep_token or tokenizer.unk_token


def _prefix(model: Any) -> str:
    return "encoder" if isinstance(model, MeanClassifier) else str(model.base_model_prefix)


def start_head(model: Any, fresh: frozenset[str], seed: int) -> None:
    """Give the fresh parameters their first values: weights N(0, 0.02) by seed, biases 0.

    The released code drew them from Uniform(−0.5, 0.5), which starts worse than chance.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in fresh:
                continue
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)  # a norm
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)


def set_dropout(model: Any, probability: float | None) -> None:
    """Set every dropout of the model; leaves them alone where ``None``."""
    if probability is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability


class _CachedStates(nn.Module):
    """A stand-in for embeddings (and frozen layers) that returns cached hidden states."""

    value: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Tensor | None:
        return self.value


class FrozenBottom:
    """The embeddings and the lowest layers of a classifier, kept as they are.

    With :meth:`detach_bottom` the model works on given outputs of the frozen part, so that these are computed once for all epochs,
    seeds and θ rather than in every step.

    Args:
        model: A classifier.
        layers: How many layers are frozen, at least 1.

    Raises:
        ConfigurationError: The model has fewer layers, or no known place for them.
    """

    def __init__(self, model: Any, layers: int) -> None:
        base = model.base_model
        stack = getattr(getattr(base, "encoder", None), "layer", None)
        if stack is None or not isinstance(getattr(base, "embeddings", None), nn.Module):
            raise ConfigurationError("finetuning.freeze", layers, f"0, as {type(base).__name__} has no known stack of layers")
        if layers > len(stack):
            raise ConfigurationError("finetuning.freeze", layers, f"<= {len(stack)}, as the model has {len(stack)} layers")
        self._base, self._layers = base, layers
        self._embeddings, self._stack = base.embeddings, stack
        self._given = _CachedStates()
        for module in (self._embeddings, *stack[:layers]):
            module.requires_grad_(False)

    def outputs(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return what the frozen part makes of a batch, [B, S, H], without dropout."""
        self._base.encoder.layer = self._stack[: self._layers]
        training = self._base.training
        self._base.eval()
        try:
            with torch.inference_mode():
                hidden: Tensor = self._base(**inputs).last_hidden_state
            return hidden
        finally:
            self._base.train(training)
            self._base.encoder.layer = self._stack

    def detach_bottom(self) -> None:
        """Take the frozen part out of the model: from here on it works on what :meth:`give` gives."""
        self._base.embeddings = self._given
        self._base.encoder.layer = self._stack[self._layers :]

    def still(self) -> None:
        """Switch dropout off in the frozen part."""
        for module in (self._embeddings, *self._stack[: self._layers]):
            module.eval()

    def give(self, hidden: Tensor) -> None:
        """Set the frozen part's output for the next batch, [B, S, H]."""
        self._given.value = hidden

    def attach_bottom(self) -> None:
        """Put the frozen part back."""
        self._given.value = None
        self._base.embeddings = self._embeddings
        self._base.encoder.layer = self._stack


def longest_input(model: Any, tokenizer: Any, wanted: int) -> int:
    """Return how many tokens of an example are read: ``wanted``, or what tokenizer and positions of the model allow."""
    return usable_positions(model.config, int(min(wanted, tokenizer.model_max_length)))


def fold_scale(model: Any, mean: float, deviation: float) -> None:
    """Fold the standardisation of a regression's targets into the last linear layer, so that the plain model gives their units."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == 1][-1]
    with torch.no_grad():
        last.weight.mul_(deviation)
        last.bias.mul_(deviation).add_(mean)


def save_classifier(model: Any, tokenizer: Any, directory: str | Path) -> None:
    """Write a classifier and its tokenizer atomically.

    One that pools the first token is in plain transformers layout (``AutoModelForSequenceClassification``, or for a choice
    ``AutoModelForMultipleChoice``). One that pools the mean cannot be: its encoder goes into ``encoder/`` (``AutoModel``) and its
    head beside it, so that no stock class loads it by mistake and gives other logits; :func:`load_classifier` reads both.
    """
    with atomic_path(directory) as temporary, quiet("transformers"):
        if not isinstance(model, MeanClassifier):
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            return
        model.encoder.save_pretrained(temporary / "encoder")
        tokenizer.save_pretrained(temporary / "encoder")
        save_file(
            {name: value.contiguous() for name, value in model.classifier.state_dict().items()}, temporary / "head.safetensors"
        )
        note = "Mean pooling: load with bort.finetuning.load_classifier; AutoModel reads encoder/ alone."
        write_json(temporary / _APART, {"pooling": "mean", "outputs": model.classifier.out_features, "note": note})


def load_classifier(directory: str | Path) -> tuple[Any, Any]:
    """Load what :func:`save_classifier` wrote, or any sequence classifier or multiple-choice model of transformers.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        BortError: The directory holds no complete classifier.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForMultipleChoice, AutoModelForSequenceClassification, AutoTokenizer

    path = Path(directory)
    apart = (path / _APART).is_file()
    home = path / "encoder" if apart else path
    with quiet("transformers"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(home, trust_remote_code=False)
            names = AutoConfig.from_pretrained(home, trust_remote_code=False).architectures or [""]
            kind = AutoModelForMultipleChoice if names[0].endswith("ForMultipleChoice") else AutoModelForSequenceClassification
            kind = AutoModel if apart else kind
            model, report = kind.from_pretrained(home, output_loading_info=True, dtype=torch.float32, trust_remote_code=False)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = first_line(error)
            raise BortError(f"The classifier '{directory}' cannot be loaded: {reason.rstrip('.')}.") from error
    _agree_on_types(tokenizer, model)
    if apart:
        model = MeanClassifier(model, int(read_json(path / _APART)["outputs"]), 0.0)
        model.classifier.load_state_dict(load_file(path / "head.safetensors"))
    elif report["missing_keys"]:
        raise BortError(f"'{directory}' is not a fine-tuned classifier: {sorted(report['missing_keys'])[0]} is missing.")
    return model.eval(), tokenizer


def check_purpose(model: Any, task: Task, *, what: str = "The model") -> list[int]:
    """Return the model's output for each class of the task, and refuses a model that was fine-tuned for another kind of task.

    Args:
        model: Of :func:`load_classifier`.
        task: The task.
        what: Name of the model in the message.

    Raises:
        BortError: The model is for another kind of task, or has other labels.
    """
    origin = getattr(model.config, ORIGIN, None) or {}
    recorded = origin.get("kind") if isinstance(origin, dict) else None
    kind = recorded or ("choice" if is_multiple_choice(model) else None)
    if kind not in (None, task.kind) or (task.kind == "choice" and kind is None):
        made = f"fine-tuned for a {kind}" if kind else "no multiple-choice model"
        raise BortError(f"{what} is {made} and task {task.name} is a {task.kind}; name a model that was fine-tuned for one.")
    names = {0: "score"} if is_multiple_choice(model) else model.config.id2label
    if isinstance(model, MeanClassifier) and model.classifier.out_features != len(names):
        raise BortError(f"{what} has {model.classifier.out_features} outputs and {len(names)} label names: its files do not fit.")
    return label_order(names, task, what=what)

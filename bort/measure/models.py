"""Models to be measured or exported: a transformers directory, an ONNX file, a published name, or a bare architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.architecture import Architecture
from bort.errors import BortError, first_line
from bort.files import read_json
from bort.measure.published import PublishedModel, find
from bort.measure.runtime import open_session, vocabulary_and_positions
from bort.model_facts import position_offset, usable_positions
from bort.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

#: How a user may name a model: a transformers directory or an ONNX file, a published name or a shape, or an Architecture.
Spec = str | Path | Architecture

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
#: What a directory holds whose head stands beside its encoder: see :func:`bort.finetuning.model.save_classifier`.
HEAD_APART = "classifier.json"
#: Families of transformers whose forward pass takes token ids and an attention mask and reads both ways.
FAMILIES = frozenset(
    {"albert", "bert", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie"}
    | {"mobilebert", "modernbert", "mpnet", "roberta", "roberta-prelayernorm", "roformer", "squeezebert", "xlm-roberta"}
)
_ACCEPTED = "encoders, masked-LM models, sequence classifiers and multiple-choice models are accepted"


@dataclass(frozen=True)
class Kind:
    """What a saved model is for, which transformers class loads it, and what its first output is called."""

    name: str
    auto: str
    output: str


ENCODER = Kind("encoder", "AutoModel", "last_hidden_state")
MASKED_LM = Kind("masked language model", "AutoModelForMaskedLM", "logits")
CLASSIFIER = Kind("sequence classifier", "AutoModelForSequenceClassification", "logits")
CHOICE = Kind("multiple-choice model", "AutoModelForMultipleChoice", "logits")
_SUFFIXES = (
    ("ForMaskedLM", MASKED_LM),
    ("ForSequenceClassification", CLASSIFIER),
    ("ForMultipleChoice", CHOICE),
    ("Model", ENCODER),
)


def kind_of(directory: Path | str) -> Kind:
    """Returns what the model in a transformers directory is for, by the class named in its ``config.json``.

    Raises:
        BortError: There is no such directory, no configuration, or the class is none that can be exported or measured.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise BortError(f"{directory} is not a directory: a model in transformers layout (config.json and weights) is needed.")
    if (directory / HEAD_APART).is_file():
        raise BortError(
            f"{directory} holds a head on the mean of all tokens, which no class of transformers has: fine-tune with "
            f"finetuning.pooling=first to export it, or name its encoder alone, {directory / 'encoder'}."
        )
    if not (directory / "config.json").is_file():
        raise BortError(f"{directory} has no config.json: a model in transformers layout (config.json and weights) is needed.")
    config = read_json(directory / "config.json")
    names = config.get("architectures") or ["Model"]
    if config.get("is_decoder"):
        raise BortError(f"{directory} holds {names[0]} set up as a decoder: {_ACCEPTED}.")
    if config.get("model_type") == "bort":
        raise BortError(
            f"{directory} holds the original Bort as the hub has it, which transformers reads no more: bort convert {directory} "
            "FOLDER makes an encoder of it that can be read."
        )
    if config.get("model_type") not in FAMILIES:
        raise BortError(f"{directory} holds {names[0]} of the family {config.get('model_type')}: {_ACCEPTED}, such as BERT's.")
    for suffix, kind in _SUFFIXES:
        if names[0].endswith(suffix):
            return kind
    raise BortError(f"{directory} holds {names[0]}: {_ACCEPTED}.")


def tells_texts_apart(model: PreTrainedModel) -> bool:
    """Whether the model has more than one token type, so that it reads the second text of a pair otherwise than the first."""
    return int(getattr(model.config, "type_vocab_size", 0) or 0) > 1


def load_model(directory: Path | str, kind: Kind | None = None) -> PreTrainedModel:
    """Loads a transformers directory in float32 and evaluation mode, without network and without chatter.

    Args:
        directory: The model's directory.
        kind: What to load it as; None for what it was saved as. Loaded as an encoder, any head is left out.

    Raises:
        BortError: The directory holds no weights, the weights lack parts of the model, or transformers cannot read them.
    """
    directory = Path(directory)
    saved = kind_of(directory)
    kind = kind or saved
    if not any((directory / name).is_file() for name in WEIGHTS):
        raise BortError(f"{directory} holds no weights: one of {', '.join(WEIGHTS[:1] + WEIGHTS[2:3])} is needed.")
    with quiet("transformers", everything=True):
        import torch
        import transformers

        auto = getattr(transformers, kind.auto)
        try:
            model, report = auto.from_pretrained(
                directory, local_files_only=True, output_loading_info=True, dtype=torch.float32, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BortError(f"{directory} cannot be loaded: {first_line(error)}") from error
    # Students have no pooler, and the encoder's output does not pass through it.
    missing = sorted(name for name in report["missing_keys"] if not (kind is ENCODER and "pooler" in name))
    if missing:
        raise BortError(f"The weights in {directory} lack {len(missing)} parts of a {kind.name}, among them {missing[0]}.")
    return model.eval()


def build_model(shape: Architecture | PublishedModel, **counts: Any) -> PreTrainedModel:
    """Returns an encoder of this shape with random weights: enough to be timed, for time does not depend on their values.

    A bare shape becomes a BERT; a published model is built with its own vocabulary and positions, and of its own family.

    Args:
        shape: What to build.
        **counts: ``vocab_size``, ``positions`` and ``token_types`` of a bare architecture; those of the architecture's own
            configuration where they are not given.
    """
    with quiet("transformers", everything=True):
        from transformers import AutoModel

        return AutoModel.from_config(_configuration(shape, **counts)).eval()


def _configuration(shape: Architecture | PublishedModel, **counts: Any) -> PreTrainedConfig:
    from transformers import DistilBertConfig, MobileBertConfig

    if isinstance(shape, Architecture):
        return shape.config(**counts)
    own = shape.architecture
    if shape.family == "distilbert":
        return DistilBertConfig(
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.positions,
            n_layers=own.depth,
            n_heads=own.heads,
            dim=own.hidden,
            hidden_dim=own.intermediate,
        )
    if shape.family == "mobilebert":
        # Its bottlenecks are what the class has of itself.
        return MobileBertConfig(vocab_size=shape.vocab_size, max_position_embeddings=shape.positions)
    unusable = position_offset(shape.family, None)
    return own.config(
        shape.family,
        vocab_size=shape.vocab_size,
        positions=shape.positions - unusable,
        token_types=max(1, shape.token_types),
        **({"pad_token_id": 1} if unusable else {}),
    )


def positions(subject: Path | Architecture | PublishedModel, longest: int = 512) -> int:
    """Returns the longest sequence that what :func:`resolve` found takes, at most ``longest``, without loading any weights.

    Raises:
        BortError: It is a directory without a configuration that can be read.
    """
    if isinstance(subject, Path) and subject.suffix == ".onnx":
        # Only an open file says so.
        return min(longest, vocabulary_and_positions(open_session(subject))[1])
    with quiet("transformers", everything=True):
        if isinstance(subject, Path):
            from transformers import AutoConfig

            kind_of(subject)
            try:
                config = AutoConfig.from_pretrained(subject, local_files_only=True, trust_remote_code=False)
            except (OSError, ValueError, KeyError) as error:
                raise BortError(f"{subject} cannot be loaded: {first_line(error)}") from error
        else:
            config = _configuration(subject)
    return usable_positions(config, longest)


def load_tokenizer(directory: Path | str) -> Any:
    """Loads the tokenizer of a transformers directory, without network.

    Raises:
        BortError: The directory holds no tokenizer files (transformers would quietly make an empty one), or unreadable ones.
    """
    directory = Path(directory)
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise BortError(f"{directory} holds no tokenizer: one of {', '.join(TOKENIZERS[:3])} is needed beside the weights.")
    with quiet("transformers", everything=True):
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise BortError(f"The tokenizer in {directory} cannot be loaded: {first_line(error)}") from error


def resolve(name: str, spec: Spec) -> Path | Architecture | PublishedModel:
    """Returns what a user's way of naming a model stands for: a directory, an ONNX file, a shape, or a published model.

    Args:
        name: The model's name, for messages.
        spec: A directory, an ONNX file, a published name such as ``bert-large``, a shape such as ``4-8-1024-768``.

    Raises:
        BortError: It is none of these.
    """
    if isinstance(spec, Architecture):
        return spec
    # A name comes before a folder of that name: the folder can be written ./bort.
    published = find(spec) if isinstance(spec, str) else None
    if published is not None:
        return published
    path = Path(spec)
    if path.is_dir() or (path.is_file() and path.suffix == ".onnx"):
        return transformers_directory(path)
    try:
        return Architecture.parse(str(spec))
    except BortError:
        raise BortError(
            f"{name}={spec} cannot be measured: a model directory, an .onnx file, a published name such as bert-large, or a shape "
            "such as 4-8-1024-768 is accepted."
        ) from None


def transformers_directory(path: Path) -> Path:
    """Returns the transformers directory inside an export's directory, or ``path`` where it is none."""
    inside = path / "transformers"
    return inside if not (path / "config.json").is_file() and (inside / "config.json").is_file() else path

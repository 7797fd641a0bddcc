"""What a teacher's configuration alone tells, read without its weights, so that a wrong request is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.architecture import POSITIONS, ROBERTA_LARGE, VOCABULARY, Architecture
from bort.errors import ConfigurationError, RecordError
from bort.files import read_json
from bort.teacher.config import TeacherConfig


@dataclass(frozen=True)
class TeacherShape:
    """Counts that fix p and i of a teacher's students.

    Args:
        architecture: The teacher's shape, the maximum point T of a search.
        vocab_size: Rows of its word embedding; its students share its tokenizer.
        positions: Tokens that fit into one sequence.
        token_types: Rows of its token-type embedding.
    """

    architecture: Architecture = ROBERTA_LARGE
    vocab_size: int = VOCABULARY
    positions: int = POSITIONS
    token_types: int = 0

    def parameters(self, architecture: Architecture) -> int:
        """Returns p of a student: embeddings and encoder, without pooler and head."""
        return architecture.parameters(self.vocab_size, self.positions, token_types=self.token_types)


def teacher_shape(config: TeacherConfig) -> TeacherShape:
    """Reads the shape of a teacher from its ``config.json``, or from the hub.

    Raises:
        ConfigurationError: The directory is no model, or its configuration lacks a number.
    """
    config.check()
    folder = Path(config.path).expanduser()
    values = _local(config, folder) if folder.is_dir() else _hub(config)
    if "model_type" in values:
        config.check_family(values["model_type"])
    try:
        offset = values.get("pad_token_id", 1) + 1 if "roberta" in str(values.get("model_type")) else 0
        return TeacherShape(
            Architecture(
                values["num_hidden_layers"], values["num_attention_heads"], values["hidden_size"], values["intermediate_size"]
            ),
            values["vocab_size"],
            values["max_position_embeddings"] - offset,
            values.get("type_vocab_size", 0),
        )
    except KeyError as error:
        accepted = f"its configuration lacks {error}, so it is no encoder of the BERT or RoBERTa family"
        raise ConfigurationError("teacher.path", config.path, accepted) from error


def _local(config: TeacherConfig, folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = read_json(folder / "config.json")
    except RecordError as error:
        accepted = f"a model directory in the layout of transformers is needed, and its config.json is missing or broken ({error})"
        raise ConfigurationError("teacher.path", config.path, accepted.rstrip(".")) from error
    return values


def _hub(config: TeacherConfig) -> dict[str, Any]:
    from transformers import AutoConfig

    from bort.teacher.load import reading

    with reading(config, "configuration") as source:
        values: dict[str, Any] = AutoConfig.from_pretrained(**source).to_dict()
    return values

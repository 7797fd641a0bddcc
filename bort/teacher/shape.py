"""What a teacher's configuration alone tells, read without its weights, so that a wrong request is refused at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bort.architecture import POSITIONS, ROBERTA_LARGE, VOCABULARY, Architecture
from bort.errors import ConfigurationError, RecordError
from bort.files import read_json
from bort.model_facts import position_offset
from bort.settings import check_settings
from bort.teacher.config import TeacherConfig

#: The numbers of an architecture, by the names that transformers' families write them under.
_NAMES = {
    "depth": ("num_hidden_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_heads"),
    "hidden": ("hidden_size", "dim"),
    "intermediate": ("intermediate_size", "hidden_dim"),
}


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
    check_settings(config, "teacher")
    folder = Path(config.path).expanduser()
    return shape_of(_local(config, folder) if folder.is_dir() else _hub(config), config)


def shape_of(values: Mapping[str, Any], config: TeacherConfig) -> TeacherShape:
    """Reads the shape out of the values of a transformers configuration.

    Raises:
        ConfigurationError: It is of no family that can teach, or it lacks a number.
    """
    if "model_type" in values:
        config.check_family(values["model_type"])
    numbers: dict[str, int] = {}
    for part, names in (_NAMES | {name: (name,) for name in ("vocab_size", "max_position_embeddings")}).items():
        found = next((values[name] for name in names if isinstance(values.get(name), int)), None)
        if found is None:
            accepted = f"an encoder of a family that can teach: its configuration lacks '{names[0]}'"
            raise ConfigurationError("teacher.path", config.path, accepted)
        numbers[part] = found
    return TeacherShape(
        Architecture(*(numbers[part] for part in _NAMES)),
        numbers["vocab_size"],
        numbers["max_position_embeddings"] - position_offset(str(values.get("model_type")), values.get("pad_token_id")),
        values.get("type_vocab_size") or 0,
    )


def _local(config: TeacherConfig, folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = read_json(folder / "config.json")
    except RecordError as error:
        accepted = f"a model directory in the layout of transformers, and its config.json is missing or broken ({error})"
        raise ConfigurationError("teacher.path", config.path, accepted.rstrip(".")) from error
    return values


def _hub(config: TeacherConfig) -> dict[str, Any]:
    from transformers import AutoConfig

    from bort.teacher.hub import reading

    with reading(config, "configuration") as source:
        values: dict[str, Any] = AutoConfig.from_pretrained(**source).to_dict()
    return values

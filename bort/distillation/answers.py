"""What an estimator has answered of a candidate, kept beside the candidate's checkpoints, so that nothing is paid for twice."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bort.candidate import Evaluation
from bort.errors import RecordError
from bort.files import read_json, write_json

ANSWERS = "evaluations.json"


class Answers:
    """The evaluations of one candidate, by steps.

    Args:
        path: The file.
        owner: Digest of the candidate and of all that fixes its answers.

    Raises:
        RecordError: The file belongs to another candidate or to other settings.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self.path, self.owner = path, owner
        self.known: dict[int, Evaluation] = {}
        if path.exists():
            record = read_json(path)
            if record["owner"] != owner:
                raise RecordError(
                    f"{path} belongs to another candidate or to other settings; choose another folder, or remove this one."
                )
            self.known = {int(steps): _revive(values) for steps, values in record["evaluations"].items()}

    def add(self, evaluation: Evaluation) -> Evaluation:
        """Keeps an evaluation, and returns it."""
        self.known[evaluation.steps] = evaluation
        evaluations = {str(steps): asdict(known) for steps, known in self.known.items()}
        write_json(self.path, {"owner": self.owner, "evaluations": evaluations})
        return evaluation


def _revive(values: dict[str, Any]) -> Evaluation:
    """JSON has no NaN: an error that is absent was one."""
    error = values["error"]
    metrics = {name: math.nan if value is None else value for name, value in values["metrics"].items()}
    return Evaluation(**{**values, "error": math.nan if error is None else error, "metrics": metrics})

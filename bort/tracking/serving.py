"""What an MLflow model of Bort runs. MLflow copies this file into the model: it imports nothing of Bort, and nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

#: Rows that are read at once, and how many words the model gives for a masked one.
_ROWS, _WORDS = 32, 5


class Served(PythonModel):
    """Answers rows of ``text`` (and ``text_pair``, or ``options``) with what the model's kind gives for them.

    A sequence classifier gives ``label``, ``score`` and ``probabilities`` by label; a regression ``value``; a multiple-choice model
    ``option`` (its place among the row's), ``score`` and ``probabilities``; a masked-LM model ``words`` and ``scores`` for the
    first masked word of the text; an encoder the ``embedding`` of the first token.
    """

    def load_context(self, context: Any) -> None:
        """Opens the model: with ONNX Runtime where it has an ONNX file, else with torch."""
        from transformers import AutoTokenizer

        home = Path(context.artifacts["model"])
        self._config = json.loads((home / "config.json").read_text(encoding="utf-8"))
        self._serves = str(context.model_config["serves"])
        self._tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=True)
        self._longest = int(context.model_config["max_length"])
        onnx = home / "model.onnx"
        self._run = _onnx(onnx) if onnx.exists() else _torch(home, self._config["architectures"][0])

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:
        """Returns a row for each row of the input."""
        records = model_input.to_dict("records")
        answers = [answer for start in range(0, len(records), _ROWS) for answer in self._answers(records[start : start + _ROWS])]
        return pd.DataFrame(answers)

    def _answers(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._serves == "choice":
            return [self._choose(record) for record in records]
        pairs = [record.get("text_pair") for record in records]
        paired = all(isinstance(pair, str) for pair in pairs)
        ids, found = self._read([record["text"] for record in records], pairs if paired else None)
        answer = getattr(self, f"_{self._serves}")
        return [answer(found[row], ids[row]) for row in range(len(records))]

    def _read(self, texts: list[str], pairs: Any = None) -> tuple[Any, Any]:
        """Returns token ids [B, S] and the model's first output."""
        inputs = self._tokenizer(texts, pairs, truncation=True, max_length=self._longest, padding=True, return_tensors="np")
        inputs = {name: np.asarray(value, dtype=np.int64) for name, value in inputs.items()}
        return inputs["input_ids"], self._run(inputs)

    def _classification(self, logits: Any, _: Any) -> dict[str, Any]:
        shares = _softmax(logits)
        labels = [self._config["id2label"][str(index)] for index in range(len(shares))]
        best = int(shares.argmax())
        probabilities = dict(zip(labels, map(float, shares), strict=True))
        return {"label": labels[best], "score": float(shares[best]), "probabilities": probabilities}

    def _regression(self, logits: Any, _: Any) -> dict[str, Any]:
        return {"value": float(logits[0])}

    def _choose(self, record: dict[str, Any]) -> dict[str, Any]:
        options = [str(option) for option in record["options"]]
        _, found = self._read([record["text"]] * len(options), options)
        shares = _softmax(found[:, 0])
        best = int(shares.argmax())
        return {"option": best, "score": float(shares[best]), "probabilities": [float(share) for share in shares]}

    def _words(self, logits: Any, ids: Any) -> dict[str, Any]:
        masked = np.flatnonzero(ids == self._tokenizer.mask_token_id)
        if not len(masked):
            return {"words": [], "scores": []}
        shares = _softmax(logits[masked[0]])
        best = np.argsort(-shares)[:_WORDS]
        words = [self._tokenizer.decode([int(index)]).strip() for index in best]
        return {"words": words, "scores": [float(shares[index]) for index in best]}

    def _embedding(self, hidden: Any, _: Any) -> dict[str, Any]:
        return {"embedding": [float(value) for value in hidden[0]]}


def _onnx(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = [node.name for node in session.get_inputs()]

    def run(inputs: dict[str, Any]) -> Any:
        zeros = np.zeros_like(inputs["input_ids"])
        return session.run(None, {name: inputs.get(name, zeros) for name in wanted})[0]

    return run


def _torch(home: Path, name: str) -> Any:
    import torch
    import transformers

    model = getattr(transformers, name).from_pretrained(home, local_files_only=True, dtype=torch.float32).eval()
    choice = name.endswith("ForMultipleChoice")
    apart = (getattr(model.config, "type_vocab_size", 0) or 0) > 1

    def run(inputs: dict[str, Any]) -> Any:
        tensors = {key: torch.from_numpy(value) for key, value in inputs.items() if apart or key != "token_type_ids"}
        if choice:
            tensors = {key: value.unsqueeze(1) for key, value in tensors.items()}
        with torch.inference_mode():
            return model(**tensors)[0].numpy()

    return run


def _softmax(logits: Any) -> Any:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


set_model(Served())

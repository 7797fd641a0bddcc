"""Exports one model: transformers directory, model card, ONNX, int8; what does not agree with torch is refused."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError
from bort.events import Observer, Quiet
from bort.export.card import model_card
from bort.export.config import ExportConfig
from bort.export.convert import directory_bytes, onnx_file, optimise, quantise
from bort.export.parity import Runner, largest_difference, random_batches, session_runner, torch_runner
from bort.files import atomic_path
from bort.measure.models import ENCODER, Kind, kind_of, load_model, load_tokenizer, quiet
from bort.measure.runtime import open_session, require_onnx
from bort.measure.sizes import size_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Two loads of the same weights in float32 must agree this closely.
SAME = 1e-5

#: Gives the task's metric, from 0 to 1, of an ONNX file on held-out data.
Score = Callable[[Path], float]


def export_model(
    model_dir: Path | str,
    directory: Path | str,
    *,
    config: ExportConfig,
    facts: Mapping[str, Any] | None = None,
    score: Score | None = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Exports a student or fine-tuned model, and checks every form of it against torch.

    Writes ``transformers/`` (config, safetensors, tokenizer, README.md), and where asked ``onnx/model.onnx``,
    ``onnx/model_optimised.onnx`` and ``onnx/model_int8.onnx``.

    Args:
        model_dir: The model in transformers layout, with its tokenizer: an encoder, a masked-LM model or a sequence classifier.
        directory: Where to write.
        config: What to write.
        facts: What the run knows of the model, for its card (see :func:`bort.export.card.model_card`).
        score: Gives the task's metric (0 to 1, more is better) of an ONNX file. It decides whether int8 is kept; without it int8 is
            kept but marked as not judged.
        observer: Told of progress, and warned of what was not kept.

    Returns:
        ``kind``, ``class``, ``size``, and for each form ``transformers``, ``onnx``, ``optimised``, ``int8`` a dict with ``path``,
        ``bytes``, ``difference`` (the largest absolute difference from torch) and ``tolerance``; int8 has ``score``,
        ``full_score``, ``lost`` (points) and ``accepted`` (None: not judged) instead of a tolerance.

    Raises:
        BortError: The directory lacks weights or a tokenizer, the model is of another kind, ONNX is not installed, or a form
            disagrees with torch by more than its tolerance.
    """
    config.check()
    observer = observer or Quiet()
    directory = Path(directory)
    if config.onnx:
        require_onnx()
    kind = kind_of(model_dir)
    tokenizer = load_tokenizer(model_dir)
    total = 2 + 2 * config.onnx + config.optimised + config.int8
    observer.progress("export", 0, total, "loading")
    model = load_model(model_dir)
    result: dict[str, Any] = {"kind": kind.name, "class": type(model).__name__, "from": str(model_dir)}
    batches = random_batches(model, config.checks, config.seed)
    ours = _remembered(torch_runner(model))

    result["transformers"] = _transformers(model, tokenizer, kind, directory / "transformers", ours, batches)
    result["size"] = size_table(directory / "transformers")["asked"]
    observer.progress("export", 1, total, "transformers")

    if config.onnx:
        result |= _onnx(model, directory / "onnx", config, score, ours, batches, observer, total)
    card = model_card({**_own_facts(result, config), **(facts or {})})
    with atomic_path(directory / "transformers" / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    result["card"] = str(directory / "transformers" / "README.md")
    observer.progress("export", total, total, "done")
    return result


def _transformers(
    model: PreTrainedModel, tokenizer: Any, kind: Kind, directory: Path, ours: Runner, batches: list[Any]
) -> dict[str, Any]:
    with atomic_path(directory) as temporary, quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        load_tokenizer(temporary)
        again = load_model(temporary, kind)
        difference = largest_difference(ours, torch_runner(again), batches)
        _refuse_above(SAME, difference, "the transformers directory, loaded again,")
    return {"path": str(directory), "bytes": directory_bytes(directory), "difference": difference, "tolerance": SAME}


def _onnx(
    model: PreTrainedModel,
    directory: Path,
    config: ExportConfig,
    score: Score | None,
    ours: Runner,
    batches: list[Any],
    observer: Observer,
    total: int,
) -> dict[str, Any]:
    """Writes and checks the ONNX forms; a form that disagrees leaves the directory as it was."""
    forms: dict[str, Any] = {}
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        full = temporary / "model.onnx"

        start = time.perf_counter()
        onnx_file(model, full, opset=config.opset)
        seconds = time.perf_counter() - start
        observer.progress("export", 2, total, "checking ONNX")
        forms["onnx"] = _checked(full, directory, ours, batches, config.tolerance, "the ONNX file")
        forms["onnx"] |= {"opset": config.opset, "seconds": seconds, "checks": len(batches)}
        observer.progress("export", 3, total, "ONNX")
        if config.optimised:
            optimise(full, temporary / "model_optimised.onnx")
            optimised = _checked(
                temporary / "model_optimised.onnx", directory, ours, batches, config.tolerance, "the optimised ONNX file"
            )
            forms["optimised"] = optimised
        if config.int8:
            forms["int8"] = _int8(full, temporary / "model_int8.onnx", directory, config, score, ours, batches, observer)
    return forms


def _checked(path: Path, home: Path, ours: Runner, batches: list[Any], tolerance: float, what: str) -> dict[str, Any]:
    difference = largest_difference(ours, session_runner(open_session(path)), batches)
    _refuse_above(tolerance, difference, what)
    return {"path": str(home / path.name), "bytes": path.stat().st_size, "difference": difference, "tolerance": tolerance}


def _int8(
    full: Path,
    small: Path,
    home: Path,
    config: ExportConfig,
    score: Score | None,
    ours: Runner,
    batches: list[Any],
    observer: Observer,
) -> dict[str, Any]:
    quantise(full, small)
    form: dict[str, Any] = {
        "path": str(home / small.name),
        "bytes": small.stat().st_size,
        "difference": largest_difference(ours, session_runner(open_session(small)), batches),
    }
    form |= judge_int8(full, small, score, config.int8_loss)
    if form["accepted"] is False:
        small.unlink()
        form["path"] = None
        observer.warn(
            f"int8 loses {form['lost']:.2f} points ({100 * form['full_score']:.2f} to {100 * form['score']:.2f}), more than the "
            f"{config.int8_loss:g} of export.int8_loss, and was not kept."
        )
    return form


def judge_int8(full: Path, small: Path, score: Score | None, allowed: float) -> dict[str, Any]:
    """Decides by the task's metric whether an int8 model may stand in for the full one.

    Args:
        full: The ONNX file in float32.
        small: The int8 file.
        score: Gives a file's metric, from 0 to 1; None where there is no task.
        allowed: Points (hundredths of the metric) that may be lost.

    Returns:
        ``full_score``, ``score``, ``lost`` (points; negative for a gain), ``allowed`` and ``accepted``, which is None without a
        task. A score that is not a number is never accepted.
    """
    if score is None:
        return {"full_score": None, "score": None, "lost": None, "allowed": allowed, "accepted": None}
    before, after = score(full), score(small)
    lost = 100 * (before - after)
    return {"full_score": before, "score": after, "lost": lost, "allowed": allowed, "accepted": bool(lost <= allowed)}


def _refuse_above(tolerance: float, difference: float, what: str) -> None:
    if math.isnan(difference) or difference > tolerance:
        raise BortError(
            f"The export was refused: {what} differs from torch by {difference:.2g}, and at most {tolerance:g} is accepted."
        )


def _remembered(runner: Runner) -> Runner:
    """Runs each batch once: the same batches are compared with every form."""
    answers: dict[int, Any] = {}

    def run(ids: Any, mask: Any, types: Any) -> Any:
        if id(ids) not in answers:
            answers[id(ids)] = runner(ids, mask, types)
        return answers[id(ids)]

    return run


def _own_facts(result: Mapping[str, Any], config: ExportConfig) -> dict[str, Any]:
    """Returns what the export itself knows for the card."""
    return {
        "class": result["class"],
        "encoder": result["kind"] == ENCODER.name,
        "size": result["size"],
        "licence": config.licence,
        "language": config.language,
        "forms": {name: result[name] for name in ("transformers", "onnx", "optimised", "int8") if name in result},
    }

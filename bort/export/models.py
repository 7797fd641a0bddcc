"""Exports one model: transformers directory, model card, ONNX, int8; what does not agree with torch is refused."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError
from bort.export.card import model_card
from bort.export.config import ExportConfig
from bort.export.convert import directory_bytes, onnx_file, optimise
from bort.export.gate import Gate, quantised
from bort.export.parity import Runner, largest_difference, random_batches, session_runner, torch_runner
from bort.files import atomic_path
from bort.measure.models import (
    CHOICE,
    CLASSIFIER,
    ENCODER,
    MASKED_LM,
    Kind,
    kind_of,
    load_model,
    load_tokenizer,
    tells_texts_apart,
)
from bort.measure.runtime import open_session, require_opset
from bort.measure.sizes import size_table
from bort.model_facts import usable_positions
from bort.observer import Observer, Quiet
from bort.quiet import quiet
from bort.settings import check_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Two loads of the same weights in float32 must agree this closely.
SAME = 1e-5


def export_model(
    model_dir: Path | str,
    directory: Path | str,
    *,
    config: ExportConfig,
    facts: Mapping[str, Any] | None = None,
    gate: Gate | None = None,
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
        gate: Decides whether int8 is kept; without it int8 is kept but marked as not judged.
        observer: Told of progress, and warned of what was not kept.

    Returns:
        ``kind``, ``class``, ``size``, ``positions`` (of the longest sequence), ``serves`` (what it gives: ``classification``,
        ``regression``, ``choice``, ``words`` or ``embedding``), and for each form ``transformers``, ``onnx``, ``optimised``,
        ``int8`` a dict with ``path``, ``bytes``, ``difference`` (the largest absolute difference from torch) and ``tolerance``;
        int8 has what :func:`bort.export.gate.quantised` tells instead of a tolerance.

    Raises:
        BortError: The directory lacks weights or a tokenizer, the model is of another kind, ONNX is not installed, or a form
            disagrees with torch by more than its tolerance.
    """
    check_settings(config, "export")
    observer = observer or Quiet()
    directory = Path(directory)
    if config.onnx:
        require_opset(config.opset)
    kind = kind_of(model_dir)
    tokenizer = load_tokenizer(model_dir)
    total = 2 + 2 * config.onnx + config.optimised + config.int8
    observer.progress("export", 0, total, "loading")
    model = load_model(model_dir)
    result: dict[str, Any] = {"kind": kind.name, "class": type(model).__name__, "from": str(model_dir)}
    # Without a tokenizer that tells texts apart the model has never seen a token type other than zero.
    types = tells_texts_apart(model) and "token_type_ids" in tokenizer.model_input_names
    batches = random_batches(model, config.checks, config.seed, token_types=types)
    ours = _remembered(torch_runner(model))

    result["transformers"] = _transformers(model, tokenizer, kind, directory / "transformers", ours, batches)
    result |= {"size": size_table(directory / "transformers")["asked"], "positions": usable_positions(model.config)}
    result["serves"] = _purpose(kind, model.config)
    observer.progress("export", 1, total, "transformers")

    if config.onnx:
        write = functools.partial(onnx_file, model, opset=config.opset, token_types=types)
        result |= _onnx(write, directory / "onnx", config, gate, ours, batches, observer, total)
    card = model_card({**_own_facts(result, config), **(facts or {})})
    with atomic_path(directory / "transformers" / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    result["card"] = str(directory / "transformers" / "README.md")
    observer.progress("export", total, total, "done")
    return result


def _transformers(
    model: PreTrainedModel, tokenizer: Any, kind: Kind, directory: Path, ours: Runner, batches: list[Any]
) -> dict[str, Any]:
    with atomic_path(directory) as temporary, quiet("transformers", everything=True):
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        load_tokenizer(temporary)
        again = load_model(temporary, kind)
        difference = largest_difference(ours, torch_runner(again), batches)
        _refuse_above(SAME, difference, "the transformers directory, loaded again,")
    return {"path": str(directory), "bytes": directory_bytes(directory), "difference": difference, "tolerance": SAME}


def _onnx(
    write: Callable[[Path], None],
    directory: Path,
    config: ExportConfig,
    gate: Gate | None,
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
        write(full)
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
            small = temporary / "model_int8.onnx"
            forms["int8"] = quantised(full, small, gate, config.int8_loss, observer)
            kept = small.exists()
            forms["int8"] |= {
                "path": str(directory / small.name) if kept else None,
                "difference": largest_difference(ours, session_runner(open_session(small)), batches) if kept else None,
            }
    return forms


def _checked(path: Path, home: Path, ours: Runner, batches: list[Any], tolerance: float, what: str) -> dict[str, Any]:
    difference = largest_difference(ours, session_runner(open_session(path)), batches)
    _refuse_above(tolerance, difference, what)
    return {"path": str(home / path.name), "bytes": path.stat().st_size, "difference": difference, "tolerance": tolerance}


def _purpose(kind: Kind, config: Any) -> str:
    """Returns what the model gives to those who ask it."""
    if kind is CLASSIFIER:
        return "regression" if config.num_labels == 1 else "classification"
    return {MASKED_LM.name: "words", CHOICE.name: "choice"}.get(kind.name, "embedding")


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

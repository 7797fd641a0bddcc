"""A model as MLflow serves it: a directory with the code that answers, the weights, what goes in and what comes out."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.files import atomic_path
from bort.tracking.sink import quiet_mlflow

#: What a served model can be for: see :class:`bort.tracking.serving.Served`.
SERVES = ("classification", "regression", "choice", "words", "embedding")
_CODE = Path(__file__).with_name("serving.py")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")


def write_served_model(
    transformers_dir: Path | str,
    directory: Path | str,
    *,
    serves: str,
    max_length: int,
    onnx: Path | str | None = None,
    pairs: bool = False,
) -> dict[str, Any]:
    """Writes a directory that ``mlflow models serve`` answers requests with, that needs no Bort, and that holds no pickle.

    Args:
        transformers_dir: The model, with its tokenizer.
        directory: Where to write.
        serves: What for, one of :data:`SERVES`.
        max_length: Tokens of a sequence; longer texts are cut.
        onnx: An ONNX file that stands in for the weights of ``transformers_dir``; ONNX Runtime then runs it, else torch.
        pairs: Whether the example of a request has two texts.

    Returns:
        ``path``, ``bytes``, ``runtime`` (the package that runs it), ``serves`` and ``example`` (the body of a request).

    Raises:
        BortError: ``serves`` is not known.
    """
    if serves not in SERVES:
        raise BortError(f"'{serves}' cannot be served: one of {', '.join(SERVES)} is accepted.")
    source, directory = Path(transformers_dir), Path(directory)
    runtime = "torch" if onnx is None else "onnxruntime"
    example = _example(serves, pairs, source)
    with quiet_mlflow():
        from mlflow import pyfunc

        with atomic_path(directory) as temporary:
            home = temporary.parent / "model"
            shutil.copytree(source, home, ignore=shutil.ignore_patterns(*(_WEIGHTS if onnx else ())))
            if onnx is not None:
                shutil.copy(onnx, home / "model.onnx")
            pyfunc.save_model(
                str(temporary),
                python_model=str(_CODE),
                artifacts={"model": str(home)},
                signature=_signature(serves),
                input_example=example,
                model_config={"serves": serves, "max_length": max_length},
                pip_requirements=_requirements(runtime),
                streamable=False,
            )
            _forget_paths(temporary)
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return {"path": str(directory), "bytes": size, "runtime": runtime, "serves": serves, "example": {"dataframe_records": example}}


def _signature(serves: str) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Map, Schema

    text, number = DataType.string, DataType.double
    inputs = [ColSpec(text, "text")]
    if serves == "choice":
        inputs.append(ColSpec(Array(text), "options"))
    elif serves != "words":
        inputs.append(ColSpec(text, "text_pair", required=False))
    outputs = {
        "classification": [ColSpec(text, "label"), ColSpec(number, "score"), ColSpec(Map(number), "probabilities")],
        "regression": [ColSpec(number, "value")],
        "choice": [ColSpec(DataType.long, "option"), ColSpec(number, "score"), ColSpec(Array(number), "probabilities")],
        "words": [ColSpec(Array(text), "words"), ColSpec(Array(number), "scores")],
        "embedding": [ColSpec(Array(number), "embedding")],
    }[serves]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _example(serves: str, pairs: bool, source: Path) -> list[dict[str, Any]]:
    row: dict[str, Any] = {"text": "A sentence to read."}
    if serves == "words":
        from transformers import AutoTokenizer

        row["text"] = f"A {AutoTokenizer.from_pretrained(source, local_files_only=True).mask_token} to read."
    if serves == "choice":
        row["options"] = ["One option.", "Another option."]
    elif pairs:
        row["text_pair"] = "A second sentence."
    return [row]


def _requirements(runtime: str) -> list[str]:
    """Returns what a machine needs to serve it, at the versions it was made with."""
    packages = ["mlflow", "numpy", "pandas", "transformers", runtime]
    found = []
    for package in packages:
        try:
            # A local build is not to be had elsewhere: 2.13.0+cpu is asked for as 2.13.0.
            found.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(package)
    return found


def _forget_paths(directory: Path) -> None:
    """Takes out of a saved model where on this machine its parts came from."""
    from mlflow.models import Model

    model = Model.load(str(directory))
    flavour = model.flavors["python_function"]
    flavour["model_code_path"] = _CODE.name
    for artifact in flavour["artifacts"].values():
        artifact["uri"] = artifact["path"]
    # Nothing in it is pickled, so it does not matter by what it would have been.
    flavour.pop("cloudpickle_version", None)
    model.save(str(directory / "MLmodel"))

"""Models in MLflow: what a served one answers, and how it is logged and registered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bort.errors import BortError
from bort.tracking.config import TrackingConfig
from bort.tracking.model import write_served_model
from bort.tracking.sink import MlflowSink, quiet_mlflow
from bort.tracking.staging import Results
from bort.tracking.tracker import LoggedModel, Tracker

SECONDS = 240
TEXT = "the cat watches the bread"


@pytest.fixture(scope="module")
def models(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny model of each purpose."""
    import torch
    import transformers

    from bort.architecture import Architecture

    names = {0: "bad", 1: "good"}
    labels = {"num_labels": 2, "id2label": names, "label2id": {name: index for index, name in names.items()}}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "classification": ("BertForSequenceClassification", labels),
        "regression": ("BertForSequenceClassification", {"num_labels": 1}),
        "choice": ("BertForMultipleChoice", {}),
        "words": ("BertForMaskedLM", {}),
        "embedding": ("BertModel", {}),
    }
    home, found = tmp_path_factory.mktemp("models"), {}
    for serves, (name, settings) in kinds.items():
        torch.manual_seed(1)
        shape = Architecture(1, 2, 16, 32).config("bert", vocab_size=len(tiny_tokenizer), positions=64, token_types=2)
        shape.initializer_range = 0.5
        for key, value in settings.items():
            setattr(shape, key, value)
        getattr(transformers, name)(shape).save_pretrained(home / serves)
        tiny_tokenizer.save_pretrained(home / serves)
        found[serves] = home / serves
    return found


@pytest.fixture(scope="module")
def served(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    home = tmp_path_factory.mktemp("served")
    return {
        serves: write_served_model(model, home / serves, serves=serves, max_length=64, pairs=serves == "classification")
        for serves, model in models.items()
    }


def answers(made: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import pandas

    with quiet_mlflow():
        from mlflow import pyfunc

        return pyfunc.load_model(made["path"]).predict(pandas.DataFrame(rows)).to_dict("records")


def logits(model: Path, kind: str, *texts: Any) -> Any:
    import torch
    import transformers

    loaded = getattr(transformers, kind).from_pretrained(model).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(model)(*texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        return loaded(**inputs)[0], inputs["input_ids"]


def test_a_classifier_answers_with_labels_and_reads_both_texts(models: dict[str, Path], served: dict[str, Any]) -> None:
    found = answers(served["classification"], [{"text": TEXT, "text_pair": "a farmer"}, {"text": "no one", "text_pair": "the sea"}])
    for answer, pair in zip(found, ((TEXT, "a farmer"), ("no one", "the sea")), strict=True):
        expected, _ = logits(models["classification"], "AutoModelForSequenceClassification", *pair)
        shares = expected.softmax(-1)[0].tolist()
        assert answer["probabilities"] == pytest.approx({"bad": shares[0], "good": shares[1]}, abs=1e-6)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
        assert answer["score"] == pytest.approx(max(shares), abs=1e-6)
    alone = answers(served["classification"], [{"text": TEXT}])[0]
    expected, _ = logits(models["classification"], "AutoModelForSequenceClassification", TEXT)
    assert alone["probabilities"]["bad"] == pytest.approx(expected.softmax(-1)[0, 0].item(), abs=1e-6)
    assert alone["probabilities"] != pytest.approx(found[0]["probabilities"], abs=1e-3)


def test_a_regression_answers_with_its_number(models: dict[str, Path], served: dict[str, Any]) -> None:
    expected, _ = logits(models["regression"], "AutoModelForSequenceClassification", TEXT)
    assert answers(served["regression"], [{"text": TEXT}]) == [{"value": pytest.approx(expected.item(), abs=1e-5)}]


def test_a_multiple_choice_model_picks_among_any_number_of_options(models: dict[str, Path], served: dict[str, Any]) -> None:
    import torch
    import transformers

    options = ["the bread", "seven stones", "her name"]
    found = answers(served["choice"], [{"text": TEXT, "options": options}, {"text": "no one", "options": options[:2]}])
    assert [len(answer["probabilities"]) for answer in found] == [3, 2]
    loaded = transformers.AutoModelForMultipleChoice.from_pretrained(models["choice"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(models["choice"])
    inputs = tokenizer([TEXT] * 3, options, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = loaded(**{name: value.unsqueeze(0) for name, value in inputs.items()}).logits[0].softmax(-1).tolist()
    assert found[0]["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert found[0]["option"] == expected.index(max(expected))


def test_a_masked_language_model_fills_the_mask(models: dict[str, Path], served: dict[str, Any]) -> None:
    import transformers

    text = "the [MASK] watches the bread"
    (answer,) = answers(served["words"], [{"text": text}])
    expected, ids = logits(models["words"], "AutoModelForMaskedLM", text)
    place = ids[0].tolist().index(4)
    best = expected[0, place].softmax(-1).topk(5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(models["words"])
    assert answer["words"] == [tokenizer.decode([index]).strip() for index in best.indices.tolist()]
    assert answer["scores"] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert answers(served["words"], [{"text": TEXT}]) == [{"words": [], "scores": []}]


def test_an_encoder_gives_its_first_tokens_state(models: dict[str, Path], served: dict[str, Any]) -> None:
    expected, _ = logits(models["embedding"], "AutoModel", TEXT)
    (answer,) = answers(served["embedding"], [{"text": TEXT}])
    assert answer["embedding"] == pytest.approx(expected[0, 0].tolist(), abs=1e-5)


def test_a_served_model_is_whole_and_holds_no_pickle_and_no_path_of_this_machine(served: dict[str, Any]) -> None:
    for made in served.values():
        files = [path for path in Path(made["path"]).rglob("*") if path.is_file()]
        names = {path.name for path in files}
        assert {"MLmodel", "serving.py", "model.safetensors", "tokenizer.json", "requirements.txt", "input_example.json"} <= names
        assert not [name for name in names if name.endswith((".pkl", ".pickle", ".bin", ".pt", ".pth"))]
        described = (Path(made["path"]) / "MLmodel").read_text()
        assert str(Path(__file__).parents[2]) not in described
        assert str(Path(made["path"]).parent) not in described
        assert "import bort" not in (Path(made["path"]) / "serving.py").read_text()
        assert made["bytes"] == sum(path.stat().st_size for path in files)
        assert answers(made, made["example"]["dataframe_records"])


def test_what_cannot_be_served_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BortError, match="'poetry' cannot be served: one of classification, regression"):
        write_served_model(models["words"], tmp_path / "served", serves="poetry", max_length=8)
    assert not (tmp_path / "served").exists()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    MlflowSink(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", experiment="Other"), folder, "", {}, Results(folder))
    return folder / "mlflow.db"


@pytest.fixture
def config(empty_store: Path, tmp_path: Path) -> TrackingConfig:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="demo", artifacts=str(tmp_path / "artifacts"))


def ship(tracker: Tracker, path: str, registered: str | None = "demo-reviews", **tags: str) -> None:
    chain = tracker.run("chain", key="chain")
    for key in ("search-1", "search-1/D2", "distill-1"):
        chain.child(key, key).finish()
    export = chain.child("export", "export-1")
    export.model(
        LoggedModel(
            path,
            "D2 reviews",
            serves="classification",
            registered=registered,
            lineage={
                "study": "search-1",
                "candidate": "search-1/D2",
                "student": "distill-1",
                "finetuned": "finetune-of-another-store",
            },
            tags={"bort.architecture": "D2", **tags},
            params={"architecture": "D2"},
            metrics={"served/accuracy": 0.75},
            description="D2, 4.4 M parameters.\n\nMore.",
        )
    )
    export.finish()
    chain.finish()


def versions(config: TrackingConfig) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=config.absolute_uri(), registry_uri=config.absolute_uri())
    return list(client.search_model_versions("name = 'demo-reviews'"))


def test_a_model_is_registered_with_its_lineage_once(
    models: dict[str, Path], served: dict[str, Any], config: TrackingConfig, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    with Tracker(config, tmp_path / "stage") as tracker:
        ship(tracker, served["classification"]["path"])
        report = tracker.sync()
    assert (report.error, report.refused) == (None, ())
    (version,) = versions(config)
    assert version.run_id == tracker.run_id("export-1")
    assert version.tags["bort.study.run"] == tracker.run_id("search-1")
    assert version.tags["bort.candidate.run"] == tracker.run_id("search-1/D2")
    assert version.tags["bort.student.run"] == tracker.run_id("distill-1")
    assert "bort.finetuned.run" not in version.tags, "no run is made up for what the store does not have"
    assert version.tags["bort.architecture"] == "D2"
    client = MlflowClient(tracking_uri=config.absolute_uri(), registry_uri=config.absolute_uri())
    assert client.get_registered_model("demo-reviews").description == "D2, 4.4 M parameters."
    (output,) = client.get_run(version.run_id).outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.source_run_id, str(logged.status), logged.params) == (version.run_id, "READY", {"architecture": "D2"})
    assert logged.tags["mlflow.note.content"] == "D2, 4.4 M parameters.\n\nMore."
    assert [(metric.key, metric.value) for metric in logged.metrics] == [("served/accuracy", 0.75)]
    assert version.source == logged.artifact_location
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "demo-reviews", "version": 1}]
    # What the registry hands out is whole, and knows which run and model it is.
    with quiet_mlflow():
        from mlflow.artifacts import download_artifacts

        copy = Path(download_artifacts(artifact_uri=logged.artifact_location, dst_path=str(tmp_path / "copy")))
    assert logged.model_id in (copy / "MLmodel").read_text()
    assert answers({"path": str(copy)}, [{"text": TEXT}]) == answers(served["classification"], [{"text": TEXT}])

    # The stage repeated, from a spool that was lost meanwhile, changes nothing; a model that changed is the next version.
    repeated = write_served_model(
        models["classification"], tmp_path / "repeated", serves="classification", max_length=64, pairs=True
    )
    with Tracker(config, tmp_path / "again") as tracker:
        ship(tracker, repeated["path"])
        assert tracker.sync().error is None
    assert len(versions(config)) == 1
    with Tracker(config, tmp_path / "later") as tracker:
        ship(tracker, served["classification"]["path"], **{"bort.architecture": "D3"})
        assert tracker.sync().error is None
    assert len(versions(config)) == 2


def test_a_model_need_not_be_registered(served: dict[str, Any], config: TrackingConfig, tmp_path: Path) -> None:
    with Tracker(config, tmp_path / "stage") as tracker:
        ship(tracker, served["classification"]["path"], registered=None)
        assert tracker.sync().error is None
    assert versions(config) == []


def test_without_tracking_nothing_is_recorded(served: dict[str, Any], tmp_path: Path) -> None:
    with Tracker(TrackingConfig(enabled=False), tmp_path / "stage") as tracker:
        ship(tracker, served["classification"]["path"])
        assert tracker.sync().delivered == 0
    assert not (tmp_path / "stage").exists()


def test_a_name_that_mlflow_does_not_take_is_refused(tmp_path: Path) -> None:
    tracker = Tracker(TrackingConfig(enabled=False), tmp_path)
    with pytest.raises(BortError, match="'demo/reviews' cannot name a model in MLflow"):
        ship(tracker, "nowhere", registered="demo/reviews")


def test_a_model_that_is_gone_is_told(config: TrackingConfig, tmp_path: Path) -> None:
    with Tracker(config, tmp_path / "stage") as tracker:
        ship(tracker, str(tmp_path / "gone"))
        assert tracker.sync().refused == ("model D2 reviews is gone",)
    assert versions(config) == []


@pytest.mark.slow
def test_what_a_server_registered_mlflow_serves(served: dict[str, Any], config: TrackingConfig, tmp_path: Path) -> None:
    """The whole way: recorded, delivered to a server, taken from its registry, and asked over HTTP where there is no Bort."""
    made = served["classification"]
    store = ["--backend-store-uri", config.absolute_uri(), "--artifacts-destination", str(tmp_path / "artifacts")]
    with Server(["server", *store, "--workers", "1"], tmp_path) as registry:
        registry.ask("/health")
        with Tracker(TrackingConfig(uri=registry.address, experiment="served", timeout=60), tmp_path / "stage") as tracker:
            ship(tracker, made["path"])
            report = tracker.sync()
        assert (report.error, report.refused) == (None, ())
        serve = ["models", "serve", "-m", "models:/demo-reviews/1", "--env-manager", "local", "--workers", "1"]
        with Server(serve, tmp_path, MLFLOW_TRACKING_URI=registry.address) as model:
            found = json.loads(model.ask("/invocations", made["example"]))
    expected = answers(made, made["example"]["dataframe_records"])
    assert [row["label"] for row in found["predictions"]] == [row["label"] for row in expected]
    assert found["predictions"][0]["score"] == pytest.approx(expected[0]["score"], abs=1e-6)


class Server:
    """One of MLflow's servers on a free port, where nothing of this project can be imported."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self._told = f"http://127.0.0.1:{port}", folder / f"{port}.log"
        self._command = [sys.executable, "-m", "mlflow", *command, "--host", "127.0.0.1", "--port", str(port)]
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # MLflow looks for the server's own command on the path.
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        quietly = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._folder, self._environment = folder, {**kept, **quietly, **environment}

    def __enter__(self) -> Server:
        with self._told.open("w") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Asks until the server is up."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        until = time.monotonic() + SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(request, timeout=60) as told:
                    return bytes(told.read())
            except urllib.error.HTTPError as error:
                pytest.fail(f"{error}: {error.read().decode()}")
            except (ConnectionError, urllib.error.URLError):
                time.sleep(0.2)
        return pytest.fail(f"no answer: {self._told.read_text()}")

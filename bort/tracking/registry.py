"""Models in MLflow: logged under the run that exported them, and registered under a name, with what each was made from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from bort.files import digest

#: By this tag a model is found again, so that a delivery that is repeated makes no second one.
_CONTENT = "bort.content"
_VERSIONS = "mlflow.modelVersions"
#: By this tag MLflow's page of the logged model shows a description.
_NOTE = "mlflow.note.content"


class Registry:
    """Logs and registers models.

    Args:
        client: MLflow's client.
        experiment_id: The experiment of the runs.
    """

    def __init__(self, client: Any, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id

    def deliver(self, run_id: str, path: Path, event: dict[str, Any], runs: dict[str, str]) -> None:
        """Logs a model under a run and registers it; again without effect.

        Args:
            run_id: The run that made it.
            path: The model's directory, as :func:`bort.tracking.model.write_served_model` writes it.
            event: ``name``, ``registered`` (None: not registered), ``lineage`` (key of each stage's run by the stage's name),
                ``tags``, ``params``, ``metrics``, ``description`` and ``version``.
            runs: Run ids of the lineage by stage, of the runs that the store has.
        """
        content = digest([event[key] for key in ("name", "version", "tags", "params", "lineage")])[:32]
        tags = {**event["tags"], **{f"bort.{stage}.run": run for stage, run in runs.items()}, _CONTENT: content}
        model = self._logged(run_id, path, event, tags)
        if event["registered"]:
            self._registered(run_id, model, event, tags)

    def _logged(self, run_id: str, path: Path, event: dict[str, Any], tags: dict[str, str]) -> Any:
        from mlflow.entities import LoggedModelOutput

        found = self._client.search_logged_models(
            [self._experiment_id], filter_string=f"source_run_id = '{run_id}' AND tags.`{_CONTENT}` = '{tags[_CONTENT]}'"
        )
        whole = next((model for model in found if str(model.status) == "READY"), None)
        if whole is not None:
            return whole
        for torn in found:
            # A delivery that was killed left it.
            self._client.delete_logged_model(torn.model_id)
        model = self._client.create_logged_model(
            self._experiment_id,
            event["name"],
            source_run_id=run_id,
            tags={**tags, _NOTE: event["description"]},
            params=event["params"],
            model_type=event["serves"],
        )
        # A spool of an earlier version has none.
        for metric, value in event.get("metrics", {}).items():
            self._client.log_metric(run_id, metric, value, model_id=model.model_id)
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        self._client.log_model_artifacts(model.model_id, str(path))
        self._name_it(model, run_id, path)
        return self._client.finalize_logged_model(model.model_id, "READY")

    def _name_it(self, model: Any, run_id: str, path: Path) -> None:
        """Replaces the description that was copied by one that knows its run and its model."""
        from mlflow.models import Model

        described = Model.load(str(path))
        described.artifact_path, described.run_id = model.artifact_location, run_id
        described.model_id = described.model_uuid = model.model_id
        with tempfile.TemporaryDirectory(prefix="bort-model-") as folder:
            described.save(str(Path(folder) / "MLmodel"))
            self._client.log_model_artifact(model.model_id, str(Path(folder) / "MLmodel"))

    def _registered(self, run_id: str, model: Any, event: dict[str, Any], tags: dict[str, str]) -> None:
        from mlflow import MlflowException

        name = event["registered"]
        try:
            self._client.create_registered_model(name, description=event["description"].partition("\n")[0])
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        versions = self._client.search_model_versions(f"name = '{name}'")
        if any(version.tags.get(_CONTENT) == tags[_CONTENT] and version.run_id == run_id for version in versions):
            return
        # By its place: "models:/<id>" would be looked up in whatever store the process uses otherwise.
        made = self._client.create_model_version(
            name, model.artifact_location, run_id=run_id, tags=tags, description=event["description"], model_id=model.model_id
        )
        # By this tag MLflow's page of the logged model shows what it is registered as.
        self._client.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps([{"name": name, "version": made.version}])})

"""`bort search impl.engine=ray`: what a node is handed is enough to open the estimator again, to find what one process finds."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bort.candidate import Evaluation
from bort.files import read_json
from bort.observer import Quiet
from bort.runtime_config import RayConfig
from bort.search import ray_engine
from bort.search.engine import Job, train
from pipelines.app.main import entry

SETTINGS = [
    *("corpus.block_length=32", "corpus.heldout=0.2", "targets.blocks=32", "targets.heldout_blocks=8", "loss=relations"),
    *("loss.relation_heads=2", "error.steps=4", "error.rungs=2", "error.measure=relation_kl", "train.batch_size=4"),
    *("search_space.depth=[1]", "search_space.heads=[2]", "search_space.hidden=[8,16]", "search_space.intermediate=[16]"),
    *("train.warmup_steps=1", "impl.device=cpu", "tracking=off", "name=tiny"),
]


class Cluster:
    """Stands for a cluster: what it is handed is pickled and opened anew, as on a node."""

    made: list[dict[str, Any]] = []  # noqa: RUF012 – what the test looks at

    def __init__(self, build: Any, fingerprint: str, config: RayConfig, *, slots: int, observer: Any) -> None:
        self.slots = slots
        self._estimator = pickle.loads(pickle.dumps(build))()
        assert self._estimator.fingerprint == fingerprint
        self._jobs: list[Job] = []
        Cluster.made.append({**vars(config), "slots": slots, "estimator": self._estimator})

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def collect(self, timeout: float) -> Sequence[tuple[Job, Evaluation]]:
        # The last one first: answers come in any order.
        job = self._jobs.pop()
        return [(job, train(self._estimator, pickle.loads(pickle.dumps(job)), Quiet()))]

    def close(self) -> None:
        assert not self._jobs


@pytest.mark.slow
def test_a_node_opens_what_the_searcher_opened(
    tiny_teacher_directory: Path, tiny_text_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "RayEngine", Cluster)
    monkeypatch.chdir(tmp_path)
    own = [f"teacher={tiny_teacher_directory}", f"corpus={tiny_text_directory}"]
    for name, engine in (
        ("one", []),
        ("ray", ["impl.engine=ray", "impl.ray.address=local", "impl.ray.processors=2", "impl.workers=2"]),
    ):
        monkeypatch.setattr(sys, "argv", ["bort search", *own, *SETTINGS, f"hydra.run.dir={name}", *engine])
        entry("search")()
    one, many = (read_json(tmp_path / name / "result.json") for name in ("one", "ray"))
    errors = [{item["name"]: item["error"] for item in found["candidates"]} for found in (one, many)]
    # The number of threads may change the rounding.
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)
    (made,) = Cluster.made
    assert (made["slots"], made["processors"], made["address"]) == (2, 2.0, "local")
    assert made["estimator"].impl.threads == 2
    assert made["estimator"].impl.devices == 1

"""One contract for every engine: the process that searches, and a Ray cluster. And what only a cluster can suffer."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bort.architecture import Architecture
from bort.errors import BortError, ConfigurationError
from bort.observer import Quiet
from bort.runtime_config import RayConfig
from bort.search.config import SearchConfig
from bort.search.engine import Engine, Job, LocalEngine
from bort.search.problem import Problem
from bort.search.space import SearchSpace
from bort.search.storage.config import JournalStorageConfig
from bort.search.strategies.config import BoundConfig, OseConfig, TpeConfig
from bort.search.worker import run_search
from tests.search.engine_estimator import make

SPACE = SearchSpace([1, 2], [2], [16, 32, 64], [32])
SHAPES = list(SPACE)
STRATEGIES: dict[str, Any] = {"ose": OseConfig(), "tpe": TpeConfig(trials=4, startup=2), "bound": BoundConfig(budget=0.8)}
#: Makes an engine of a folder, with what the estimator is to do.
Make = Callable[..., Engine]


class Listener(Quiet):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, one processor each; the first is the head, and the process that searches belongs to it."""
    before = dict(os.environ)
    # What nodes import, they find where this process does; and a busy machine is no lost node.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_register_timeout_seconds": "200"}
    # A node that is gone refuses ten times in five seconds; one that is slow has two hundred.
    health = {"period_ms": "500", "timeout_ms": "20000", "failure_threshold": "10"}
    os.environ |= {f"RAY_health_check_{name}": value for name, value in health.items()}
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'bort[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.add_node(num_cpus=1, object_store_memory=node["object_store_memory"])
    import ray

    # Once for all tests, so that the nodes keep their processes.
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(params=["local", "ray"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    opened: list[Engine] = []
    address = request.getfixturevalue("cluster").address if request.param == "ray" else ""

    def opening(observer: Any = None, **script: Any) -> Engine:
        estimator = make(str(tmp_path / "log"), **script)
        if not address:
            opened.append(LocalEngine(estimator, observer or Quiet()))
        else:
            from bort.search.ray_engine import RayEngine

            build = functools.partial(make, str(tmp_path / "log"), **script)
            opened.append(RayEngine(build, estimator.fingerprint, RayConfig(address=address), slots=2, observer=observer))
        return opened[-1]

    yield opening
    for made in opened:
        made.close()


def job(folder: Path, number: int = 0, steps: int = 2) -> Job:
    return Job(number, SHAPES[number], {}, steps, folder / "candidates" / str(number))


def waited(engine: Engine, jobs: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    until = time.monotonic() + 200
    while len(found) < jobs and time.monotonic() < until:
        for ended, evaluation in engine.collect(1.0):
            assert ended.number not in found
            found[ended.number] = evaluation
    return found


def test_each_job_is_answered_once_with_its_evaluation(engine: Make, tmp_path: Path) -> None:
    made = engine()
    assert made.collect(0.1) == []
    jobs = [job(tmp_path, number) for number in range(made.slots)]
    for each in jobs:
        made.submit(each)
    found = waited(made, made.slots)
    expected = make(str(tmp_path / "other"))
    for each in jobs:
        alone = expected.evaluate(each.architecture, {}, 2, tmp_path / "alone" / str(each.number), Quiet())
        assert (found[each.number].steps, found[each.number].error, found[each.number].tokens) == (2, alone.error, 10)
        assert found[each.number].checkpoint == str(each.directory)
        assert {"began", "ended"} <= found[each.number].metrics.keys()
    assert made.collect(0.1) == []


def test_a_rung_goes_on_from_the_last_ones_checkpoint(engine: Make, tmp_path: Path) -> None:
    made = engine()
    for steps in (2, 4):
        made.submit(job(tmp_path, steps=steps))
        waited(made, 1)
    pieces = [json.loads(line)[1:3] for line in (tmp_path / "log").read_text().splitlines()]
    assert pieces == [[2, 0], [2, 1], [2, 2], [2, 3], [4, 4], [4, 5], [4, 6], [4, 7]]


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("refused", BortError, "is not wanted."),
        ("unreadable", BortError, "could not be trained to 2 steps (the file is gone)"),
        ("broken", Exception, "nobody foresaw this"),
    ],
)
def test_what_goes_wrong_reaches_the_searcher(engine: Make, tmp_path: Path, trouble: str, kind: type, words: str) -> None:
    made = engine(trouble={str(SHAPES[0]): trouble})
    made.submit(job(tmp_path))
    with pytest.raises(kind) as caught:
        waited(made, 1)
    assert words in str(caught.value)
    assert isinstance(caught.value, BortError) == (kind is BortError)


def test_warnings_and_diverged_errors_pass(engine: Make, tmp_path: Path) -> None:
    listener = Listener()
    made = engine(listener, trouble={str(SHAPES[0]): "warned", str(SHAPES[1]): "diverged"})
    for number in (0, 1):
        made.submit(job(tmp_path, number))
        found = waited(made, 1)
    assert math.isnan(found[1].error)
    assert listener.warnings == [f"{SHAPES[0]} is odd."]


def problem(estimator: Any) -> Problem:
    return Problem(
        space=SPACE, maximum_point=Architecture(3, 4, 128, 128), parameters=Architecture.parameters,
        latency=Architecture.operations, estimator=estimator, search=SearchConfig(),
    )  # fmt: skip


def search(folder: Path, engine: Engine, strategy: str) -> dict[str, Any]:
    told: list[str] = []
    result: dict[str, Any] = run_search(
        problem(make("own")), STRATEGIES[strategy], seed=1, storage=JournalStorageConfig(),
        directory=folder, engine=engine, on_candidate=lambda record: told.append(record.name),
    )  # fmt: skip
    assert sorted(told) == sorted(candidate["name"] for candidate in result["candidates"]), "each is told of once"
    return result


def alone_in(folder: Path) -> Engine:
    return LocalEngine(make(str(folder / "alone.log")), Quiet())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_finds_what_one_process_finds(engine: Make, tmp_path: Path, strategy: str) -> None:
    found = search(tmp_path / "engine", engine(), strategy)
    alone = search(tmp_path / "alone", alone_in(tmp_path), strategy)
    assert Counter(candidate["name"] for candidate in found["candidates"]).most_common(1)[0][1] == 1
    if strategy == "ose":
        assert found["winner"]["name"] == alone["winner"]["name"]
        assert {c["name"]: (c["state"], c["error"]) for c in found["candidates"]} == {
            c["name"]: (c["state"], c["error"]) for c in alone["candidates"]
        }
    assert found["trained_steps"] <= found["exhaustive_steps"]
    # Given again, it is found done: nothing is trained.
    trained = (tmp_path / "log").read_text()
    assert search(tmp_path / "engine", engine(), strategy)["winner"] == found["winner"]
    assert (tmp_path / "log").read_text() == trained


def test_a_search_that_was_broken_off_goes_on(engine: Make, tmp_path: Path) -> None:
    with pytest.raises(BortError, match="is not wanted"):
        search(tmp_path / "search", engine(trouble={str(SHAPES[3]): "refused"}), "ose")
    found = search(tmp_path / "search", engine(), "ose")
    assert [candidate["state"] for candidate in found["candidates"]] == ["complete"] * len(SHAPES)
    assert found["trained_steps"] == 4 * len(SHAPES)


# What only a cluster can suffer.


def test_a_node_that_is_lost_loses_no_candidate(cluster: Any, tmp_path: Path) -> None:
    from bort.search.ray_engine import RayEngine

    script: dict[str, Any] = {"seconds": 2.0, "pieces": 10}
    lost = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    build = functools.partial(make, str(tmp_path / "log"), **script)
    engine = RayEngine(build, build().fingerprint, RayConfig(address=cluster.address), slots=3)

    def done_by(node: str) -> list[list[Any]]:
        log = tmp_path / "log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line[4] == node]

    def kill() -> None:
        # In the middle of a rung of its: some pieces are done, some are not. All its processes go at once, as with a machine.
        while not (begun := [line for line in done_by(lost.node_id) if line[2] % 10 == 2]):
            time.sleep(0.02)
        (raylet,) = lost.all_processes["raylet"]
        for process in (raylet.process.pid, begun[-1][3]):
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = search(tmp_path / "search", engine, "ose")
        killer.join(30)
    finally:
        engine.close()
        cluster.remove_node(lost, allow_graceful=False)
    assert [candidate["state"] for candidate in found["candidates"]] == ["complete"] * len(SHAPES)
    assert found["trained_steps"] == 4 * len(SHAPES)
    assert found["winner"]["name"] == search(tmp_path / "alone", alone_in(tmp_path), "ose")["winner"]["name"]
    last = done_by(lost.node_id)[-1]
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    again = [line for line in lines if line[:2] == last[:2] and line[4] != lost.node_id]
    assert again, "another node took up the candidate"
    assert again[0][2] in (last[2], last[2] + 1), "and went on from its checkpoint"
    assert max(Counter(tuple(line[:3]) for line in lines).values()) <= 2


def test_a_candidate_that_kills_its_process_is_given_up_with_a_sentence(cluster: Any, tmp_path: Path) -> None:
    from bort.search.ray_engine import RayEngine

    script: dict[str, Any] = {"trouble": {str(SHAPES[0]): "killed"}}
    build = functools.partial(make, str(tmp_path / "log"), **script)
    engine = RayEngine(build, build().fingerprint, RayConfig(address=cluster.address, retries=1), slots=1)
    try:
        engine.submit(job(tmp_path))
        with pytest.raises(BortError, match=r"could not be trained to 2 steps \(the cluster lost it 2 times"):
            waited(engine, 1)
    finally:
        engine.close()


def test_a_node_that_sees_other_data_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bort.search import ray_engine

    build = functools.partial(make, str(tmp_path / "log"))
    with pytest.raises(BortError, match="opened other data"):
        ray_engine._estimator(build, "another", os.getcwd())
    with pytest.raises(BortError, match="all nodes need one file system"):
        ray_engine._estimator(build, "another", str(tmp_path / "nowhere"))


def test_what_no_node_has_is_said(cluster: Any, tmp_path: Path) -> None:
    from bort.search.ray_engine import RayEngine

    listener = Listener()
    RayEngine(make, "", RayConfig(address=cluster.address, processors=64, gpus=0.25), slots=1, observer=listener).close()
    assert len(listener.warnings) == 1
    assert "No node of the Ray cluster has what a candidate asks for (64 processors, 0.25 GPUs, 0 MB)" in listener.warnings[0]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "none answers there"),
        ("somewhere", "must be auto, local, or the host:port"),
        ("auto", "the address of a Ray cluster"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_refused(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'bort[ray]'")
    from bort.search.ray_engine import connect

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def refuse(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance. Please start one.")

    monkeypatch.setattr(ray, "init", refuse)
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match=words) as caught:
        connect(address)
    assert str(caught.value).startswith(f"impl.ray.address={address} is invalid")
    assert time.monotonic() - started < 30


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from bort.search.ray_engine import connect

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BortError, match=r"impl.engine=ray needs the extra bort\[ray\]: pip install 'bort\[ray\]'"):
        connect("auto")

"""Candidates on a Ray cluster: each asks for its processors, memory and share of a GPU, and is restarted where a node is lost.

Only the process that searches reads and writes the study. The nodes need this package and a file system that they share with
that process, where the candidates' checkpoints lie; they need no way to the storage.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from bort.candidate import Estimator, Evaluation
from bort.errors import BortError, ConfigurationError, first_line
from bort.observer import Observer, Quiet
from bort.redaction import redact
from bort.runtime_config import RayConfig
from bort.search.engine import Job, train, untrained

#: Seconds for which an address is tried.
_CONNECT_SECONDS = 10.0
_MEGABYTE = 1 << 20
#: What each process of a node has opened, by its fingerprint.
_opened: dict[str, Estimator] = {}


class RayEngine:
    """Trains candidates on a Ray cluster.

    Args:
        build: Opens the estimator on a node; it and its arguments have to be picklable.
        fingerprint: The estimator's; one that a node opened must have the same.
        config: The cluster, and what each candidate requests of it.
        slots: Jobs submitted at once; what exceeds the cluster waits there.
        observer: Receives warnings.

    Raises:
        BortError: Ray is not installed.
        ConfigurationError: The cluster cannot be reached.
    """

    def __init__(
        self,
        build: Callable[[], Estimator],
        fingerprint: str,
        config: RayConfig,
        *,
        slots: int,
        observer: Observer | None = None,
    ) -> None:
        self.slots, self._observer = slots, observer or Quiet()
        self._build, self._fingerprint = build, fingerprint
        self._owns = not connected()
        self._ray = connect(config.address)
        memory = config.memory_megabytes and config.memory_megabytes * _MEGABYTE
        request = {"num_cpus": config.processors, "num_gpus": config.gpus, "memory": memory}
        self._retries, self._running = config.retries, dict[Any, Job]()
        self._task = self._ray.remote(_train).options(max_retries=config.retries, scheduling_strategy="SPREAD", **request)
        self._warn_if_no_node_fits(config)

    def _warn_if_no_node_fits(self, config: RayConfig) -> None:
        megabytes = config.memory_megabytes or 0
        request = {"CPU": config.processors, "GPU": config.gpus, "memory": megabytes * _MEGABYTE}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0.0) >= amount for name, amount in request.items()) for node in nodes):
            self._observer.warn(
                f"No node of the Ray cluster has what a candidate asks for ({config.processors:g} processors, "
                f"{config.gpus:g} GPUs, {megabytes} MB): the search waits until one joins. impl.ray.processors, impl.ray.gpus and "
                "impl.ray.memory_megabytes can ask for less."
            )

    def submit(self, job: Job) -> None:
        """Submit a job to the cluster."""
        self._running[self._task.remote(self._build, self._fingerprint, os.getcwd(), job)] = job

    def collect(self, timeout: float) -> Sequence[tuple[Job, Evaluation]]:
        """Return the finished jobs; wait for the first of them."""
        if not self._running:
            return []
        first, rest = self._ray.wait(list(self._running), timeout=timeout)
        more = self._ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
        return [(job, self._answer(reference, job)) for reference in [*first, *more] if (job := self._running.pop(reference))]

    def _answer(self, reference: Any, job: Job) -> Evaluation:
        exceptions = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            raise RuntimeError(f"{job.architecture} on the Ray cluster: {error.cause!r}") from error
        except exceptions.RayError as error:
            reason = first_line(error)
            raise untrained(job, f"the cluster lost it {self._retries + 1} times; {reason}") from error
        for warning in answer["warnings"]:
            self._observer.warn(warning)
        if "refused" in answer:
            raise BortError(answer["refused"])
        return Evaluation(**answer["evaluation"])

    def close(self) -> None:
        """Cancel the running jobs, and leave the cluster if the engine had joined it."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._owns:
            self._ray.shutdown()


def connected() -> bool:
    """Whether this process belongs to a cluster already."""
    ray = sys.modules.get("ray")
    return bool(ray and ray.is_initialized())


def connect(address: str, processors: int | None = None) -> Any:
    """Connects this process to a cluster, where it is not connected yet, and returns the module ``ray``.

    Args:
        address: See :class:`~bort.runtime_config.RayConfig`.
        processors: Processors that a cluster of this machine alone counts with; those that it has if absent.

    Raises:
        BortError: Ray is not installed.
        ConfigurationError: The cluster cannot be reached.
    """
    # Nothing here reports to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise BortError("impl.engine=ray needs the extra bort[ray]: pip install 'bort[ray]'.") from error
    if ray.is_initialized():
        return ray
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "bort"}
    if address == "local":
        # Ray would give its processes way to all others, and a search beside other work would stand still.
        os.environ.setdefault("RAY_worker_niceness", "0")
        settings |= {"address": "local", "include_dashboard": False, "num_cpus": processors}
    else:
        settings["address"] = address
        _check_reachable(address)
    try:
        ray.init(**settings)
    except Exception as error:
        # Ray raises plain exceptions where its processes do not come up in time.
        raise _unreachable(address, str(error)) from None
    return ray


def _check_reachable(address: str) -> None:
    """Ray itself would try for a minute, and then end the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError("impl.ray.address", redact(address), "auto, local, or the host:port of a cluster's head")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, str(error)) from None


def _unreachable(address: str, reason: str) -> ConfigurationError:
    told = " ".join(reason.split()).partition(". ")[0].rstrip(".")
    return ConfigurationError(
        "impl.ray.address",
        address,
        f"the address of a Ray cluster, and none answers there ({told}); start one with `ray start --head`, join this machine to "
        "one with "
        "`ray start --address=HEAD:6379`, or use impl.ray.address=local for this machine alone",
    )


class _Warnings(Quiet):
    """Keeps what a person should see."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, message: str) -> None:
        """Keeps a sentence."""
        self.told.append(message)


def _train(build: Callable[[], Estimator], fingerprint: str, folder: str, job: Job) -> dict[str, Any]:
    """Trains one candidate on the node that Ray chose; errors that a person can mend travel as sentences."""
    told = _Warnings()
    try:
        evaluation = train(_estimator(build, fingerprint, folder), job, told)
    except BortError as error:
        return {"refused": str(error), "warnings": told.told}
    return {"evaluation": {**vars(evaluation), "metrics": dict(evaluation.metrics)}, "warnings": told.told}


def _estimator(build: Callable[[], Estimator], fingerprint: str, folder: str) -> Estimator:
    if fingerprint in _opened:
        return _opened[fingerprint]
    node = socket.gethostname()
    try:
        os.chdir(folder)
    except OSError as error:
        raise BortError(
            f"The node {node} cannot enter {folder} ({error}): all nodes need one file system that they share."
        ) from None
    estimator = build()
    if estimator.fingerprint != fingerprint:
        raise BortError(f"The node {node} opened other data, or runs another version of Bort, than the process that searches.")
    _opened[fingerprint] = estimator
    return estimator

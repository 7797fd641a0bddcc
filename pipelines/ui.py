"""`bort ui`: the recorded runs in MLflow, and a study in Optuna's dashboard beside it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from bort.errors import BortError, ConfigurationError
from bort.optuna_storage import newer_journal
from bort.tracking.schema import unreadable

from .app.main import guarded
from .engine.processes import stop

_HOST = "127.0.0.1"
_LAST_PORT = 65_535
#: Seconds that a server has to end by itself; then it is killed.
_GRACE_SECONDS = 20.0


def main() -> None:
    """Serves what a folder of results holds, until it is interrupted."""
    parser = argparse.ArgumentParser(prog="bort ui", description=__doc__.partition(": ")[2])
    parser.add_argument("outputs", nargs="?", default="outputs", type=Path, help="the folder of results (default: outputs)")
    parser.add_argument(
        "--port", type=int, default=5000, help="MLflow's port; Optuna's dashboard takes the next one (default: 5000)"
    )
    parser.add_argument("--study", type=Path, help="a study.journal; by default that of the newest search")
    options = parser.parse_args(sys.argv[1:])
    guarded(lambda: _serve(options.outputs, options.port, options.study))


def _serve(outputs: Path, port: int, study: Path | None) -> None:
    if not 1 <= port < _LAST_PORT:
        raise ConfigurationError("--port", port, f"in [1, {_LAST_PORT - 1}], so that the dashboard has the next one")
    if not (outputs / "mlflow.db").is_file():
        raise BortError(f"Nothing is recorded yet in {outputs / 'mlflow.db'}: run `make demo`, or any stage, first.")
    if why := unreadable(outputs / "mlflow.db"):
        raise BortError(why)
    if study is not None and not study.is_file():
        raise BortError(f"There is no study in {study}: name the study.journal of a search.")
    commands = {f"MLflow: http://{_HOST}:{port}/#/experiments/1/runs?workflowType=machine_learning": _mlflow(outputs, port)}
    study = study or max(outputs.rglob("search/study.journal"), key=lambda path: path.stat().st_mtime, default=None)
    dashboard = importlib.util.find_spec("optuna_dashboard")
    if study is None or dashboard is None:
        print(f"Optuna's dashboard is left out: {'there is no study' if dashboard else 'pip install bort[ui] adds it'}.")
    elif why := newer_journal(study):
        print(f"Optuna's dashboard is left out: of {study}, {why}.")
    else:
        address = ["--host", _HOST, "--port", str(port + 1)]
        commands[f"Optuna: http://{_HOST}:{port + 1}/ shows {study}"] = [
            sys.executable,
            "-m",
            f"{__package__}.dashboard",
            str(study),
            *address,
        ]
    for number in range(port, port + len(commands)):
        _check_free(number)
    print("\n".join(commands), "Ctrl-C ends it.", sep="\n", flush=True)
    for page in sorted(outputs.glob("*/report/index.html")):
        print(f"Report: {page}", flush=True)
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    # A request to end ends the servers, too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    servers = [subprocess.Popen(command, env=environment) for command in commands.values()]
    try:
        servers[0].wait()
    finally:
        # Whoever asked finds their ports free.
        stop(servers, _GRACE_SECONDS)


def _mlflow(outputs: Path, port: int) -> list[str]:
    store = ["--backend-store-uri", f"sqlite:///{outputs / 'mlflow.db'}", "--default-artifact-root", str(outputs / "mlartifacts")]
    quiet = ["--workers", "1", "--uvicorn-opts", "--log-level critical"]
    return [sys.executable, "-m", "mlflow", "server", *store, "--host", _HOST, "--port", str(port), *quiet]


def _check_free(port: int) -> None:
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as error:
        raise BortError(f"Port {port} of {_HOST} cannot be used ({error.strerror}); choose another with --port.") from error


if __name__ == "__main__":
    main()

"""Brings the containers up and breaks them, and leaves a transcript of what was run, how long it took and what came out.

``make test-docker``. It needs an engine with Compose, about 3 GB and, the first time, a package index. It works in a project of
its own and takes it away at the end. Variables:

* ``BASE_IMAGE``: what the image is built from; by default the public one.
* ``BORT_STAND_INS=1``: build stand-ins for PostgreSQL's and rclone's images from ``BASE_IMAGE``, where no registry can be reached.
* ``BORT_WHEELS``: a folder with torch's wheel, where no index has its CPU build.
* ``BORT_WORKER_CPUS``: processors of each worker.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PROJECT, TAG, NAME = "bort-check", "check", "check"
MLFLOW, DASHBOARD = "http://127.0.0.1:15000", "http://127.0.0.1:18080"
#: The demo's chain with fewer candidates, steps, blocks and examples.
SHORT = (
    f"experiment=demo name={NAME} search_space.depth=[1,2,3] search_space.hidden=[64,96] error.steps=24 "
    "targets.blocks=320 targets.heldout_blocks=32 "
    "budget.steps=40 budget.checkpoint_every=20 distill.twin=false finetune.models=[student] finetuning.seeds=[0,1] "
    "finetuning.trials=0 finetuning.epochs=1 task.train_examples=400 task.steering=200 task.heldout=300 benchmark.repeats=5"
)
CANDIDATES = 12


class Check:
    """Runs commands, and keeps what they were, how long they took and what was found."""

    def __init__(self, secrets: Path) -> None:
        self.lines: list[str] = []
        self.started = time.monotonic()
        self.environment = {
            **os.environ,
            "BORT_TAG": TAG,
            "BORT_SECRETS": str(secrets),
            "BORT_ARGS": SHORT,
            "BORT_MLFLOW_PORT": MLFLOW.rpartition(":")[2],
            "BORT_DASHBOARD_PORT": DASHBOARD.rpartition(":")[2],
        }
        self.secrets = [path.read_text() for path in sorted(secrets.iterdir())]

    def say(self, text: str) -> None:
        """Adds a line to the transcript, and shows it."""
        self.lines.append(text)
        print(text, flush=True)

    def run(self, command: str, *, shown: str | None = None, limit: float = 1800, env: dict[str, str] | None = None) -> str:
        """Runs a command, which must succeed, and returns what it wrote."""
        began = time.monotonic()
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, env={**self.environment, **(env or {})}, capture_output=True, text=True, timeout=limit
        )
        if shown is not None:
            self.say(f"{time.monotonic() - began:7.1f} s  $ {shown or command}")
        if done.returncode:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def compose(self, arguments: str, *, shown: bool = True, env: dict[str, str] | None = None) -> str:
        """Runs ``docker compose`` on the project."""
        command = f"docker compose --ansi never --project-name {PROJECT} --file docker/compose.yaml {arguments}"
        return self.run(command, shown=f"docker compose {arguments}" if shown else None, env=env)

    def until(self, what: str, answer: Callable[[], Any], limit: float = 1800, workers: Sequence[str] = ()) -> Any:
        """Waits until ``answer`` is something, and says how long it took; gives up where every one of ``workers`` has failed."""
        began = time.monotonic()
        while time.monotonic() - began < limit:
            if found := answer():
                self.say(f"{time.monotonic() - began:7.1f} s  until {what}")
                return found
            if workers and all(self.inspect(worker, "{{.State.Status}}") == "exited" for worker in workers):
                raise SystemExit(f"no worker is left: {what}")
            time.sleep(2)
        raise SystemExit(f"{limit:.0f} seconds were not enough: {what}")

    def must(self, holds: object, what: str) -> None:
        """Ends the check where something does not hold."""
        if not holds:
            raise SystemExit(f"does not hold: {what}")
        self.say(f"        ok  {what}")

    def sql(self, database: str, query: str) -> str:
        """Asks the database."""
        asked = f"exec -T postgres psql --username bort --dbname {database} --no-align --tuples-only --command {shlex.quote(query)}"
        return self.compose(asked, shown=False).strip()

    def container(self, service: str) -> list[str]:
        """Returns the ids of a service's containers."""
        return self.compose(f"ps --all --quiet {service}", shown=False).split()

    def inspect(self, container: str, template: str) -> str:
        """Returns one thing that the engine knows of a container."""
        return self.run(f"docker inspect --format {shlex.quote(template)} {container}").strip()


def ask(url: str, body: dict[str, Any] | None = None, *, data: bytes | None = None, method: str | None = None) -> bytes:
    """Asks a server."""
    content = json.dumps(body).encode() if body is not None else data
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"} if body is not None else {}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        told: bytes = answer.read()
    return told


def build(check: Check) -> None:
    """Builds the image, and stand-ins for the others where they are asked for."""
    base = os.environ.get("BASE_IMAGE", "python:3.11-slim-bookworm")
    if os.environ.get("BORT_STAND_INS"):
        images = {"postgres": "bort-check/postgres:15", "rclone": "bort-check/rclone:1.71.2"}
        for name, tag in images.items():
            check.run(f"docker build --quiet --build-arg BASE_IMAGE={base} --file {HERE}/{name}.Dockerfile --tag {tag} {HERE}")
        check.environment |= {"POSTGRES_IMAGE": images["postgres"], "S3_IMAGE": images["rclone"]}
    wheels = os.environ.get("BORT_WHEELS")
    context = f" --build-context wheels={wheels}" if wheels else ""
    check.run(
        f"docker build --file docker/Dockerfile --target bort --build-arg BASE_IMAGE={base} --tag bort:{TAG}{context} .",
        shown=f"docker build --file docker/Dockerfile --target bort --tag bort:{TAG} .",
        limit=3600,
    )
    for line in check.run(f"docker history --format '{{{{.Size}}}}  {{{{.CreatedBy}}}}' bort:{TAG}").splitlines():
        if not line.startswith("0B"):
            check.say(f"            {line[:110]}")


def servers(check: Check) -> None:
    """Starts the servers and looks at how they stand."""
    check.compose("up --pull never --no-build --detach --wait postgres init mlflow dashboard")
    check.must(ask(f"{MLFLOW}/health") == b"OK", "MLflow answers")
    check.must("study_summaries" in json.loads(ask(f"{DASHBOARD}/api/studies")), "Optuna's dashboard answers")
    for service in ("postgres", "mlflow", "dashboard"):
        (container,) = check.container(service)
        ports = json.loads(check.inspect(container, "{{json .NetworkSettings.Ports}}"))
        hosts = {binding["HostIp"] for bindings in ports.values() for binding in bindings or []}
        check.must(hosts <= {"127.0.0.1"}, f"{service} is published on {', '.join(hosts) or 'nothing'}")
    for service in ("mlflow", "dashboard"):
        check.must(check.compose(f"exec -T {service} id -u", shown=False).strip() != "0", f"{service} does not run as root")


def trials(check: Check) -> dict[str, int]:
    """Returns how many trials are in which state."""
    rows = check.sql("optuna", "SELECT state, count(*) FROM trials GROUP BY state").splitlines()
    return {row.partition("|")[0]: int(row.partition("|")[2]) for row in rows}


def search(check: Check) -> None:
    """Lets two workers search, and kills both: one comes back by itself, one stays away."""
    up = "--profile search up --pull never --no-build --detach"
    check.compose(f"{up} --scale search=2 search")
    first, second = check.container("search")
    check.until("two candidates were complete", lambda: trials(check).get("COMPLETE", 0) >= 2, workers=(first, second))
    process = int(check.inspect(first, "{{.State.Pid}}"))
    before = trials(check)
    try:
        os.kill(process, signal.SIGKILL)
    except PermissionError:
        check.say("            only root may kill a container's process; its return is not tested")
    else:
        check.say(f"            a worker's process is killed, with {before}")
        restarted = lambda: int(check.inspect(first, "{{.RestartCount}}")) >= 1  # noqa: E731
        check.until("the killed worker was started again by its policy", restarted, 120)
    check.until("five candidates were complete", lambda: trials(check).get("COMPLETE", 0) >= 5, workers=(first, second))
    check.run(f"docker kill --signal KILL {second}", shown="docker kill --signal KILL (the other worker, for good)")
    check.say(f"            with {trials(check)}")
    check.until("the worker that was left had ended", lambda: check.inspect(first, "{{.State.Status}}") == "exited")
    check.must(check.inspect(first, "{{.State.ExitCode}}") == "0", "it ended in good order")
    check.must(check.inspect(second, "{{.State.ExitCode}}") == "137", "the other one is dead")
    ended = trials(check)
    check.must(
        ended["COMPLETE"] == CANDIDATES and "RUNNING" not in ended, f"the study holds {CANDIDATES} candidates, each complete"
    )
    check.compose("--profile search run --rm --no-deps --no-TTY search bort track sync")
    inside = "import glob, json; result = json.load(open(glob.glob('outputs/check/**/search/result.json', recursive=True)[0]))"
    counted = "names = [c['name'] for c in result['candidates']]; print(len(names), len(set(names)), result['winner']['name'])"
    run = "--profile search run --rm --no-deps --no-TTY search python -c"
    told = check.compose(f"{run} {shlex.quote(f'{inside}; {counted}')}", shown=False).split()
    check.must(told[:2] == [str(CANDIDATES)] * 2, f"its result has each candidate once; the winner is {told[2]}")


def reproduce(check: Check) -> None:
    """Runs the chain, which finds the search done."""
    check.compose("--profile reproduce up --pull never --no-build --detach reproduce")
    (container,) = check.container("reproduce")
    check.until("the chain had ended", lambda: check.inspect(container, "{{.State.Status}}") == "exited", 3600)
    said = re.sub(r"\x1b\[\d*[A-Z]", "", check.compose("logs --no-log-prefix reproduce", shown=False))
    check.must(check.inspect(container, "{{.State.ExitCode}}") == "0", "it ended in good order")
    for stage, seconds in re.findall(r"^(\w+) +([\d.]+) *$", said.rpartition("What it cost")[2], flags=re.MULTILINE):
        check.say(f"            {stage} {seconds} s")


def state(check: Check) -> dict[str, Any]:
    """Returns what the servers hold, asked of them as a user's browser would."""
    experiment = json.loads(ask(f"{MLFLOW}/api/2.0/mlflow/experiments/get-by-name?experiment_name=bort"))["experiment"]
    body = {"experiment_ids": [experiment["experiment_id"]], "max_results": 1000}
    runs = json.loads(ask(f"{MLFLOW}/api/2.0/mlflow/runs/search", body))["runs"]
    keys = [tag["value"] for run in runs for tag in run["data"]["tags"] if tag["key"] == "bort.key"]
    check.must(len(keys) == len(set(keys)) == len(runs), f"MLflow holds {len(runs)} runs, none twice")
    candidates = [run for run in runs if re.fullmatch(r"D\d+-A\d+-H\d+-I\d+", run["info"]["run_name"])]
    check.must(len(candidates) == CANDIDATES, f"{CANDIDATES} of them are the candidates, those of the dead worker among them")
    stage = {"key": "bort.stage", "value": "reproduce"}
    chain = next(run for run in runs if stage in run["data"]["tags"])["info"]
    page = ask(f"{MLFLOW}/get-artifact?run_uuid={chain['run_id']}&path=report/index.html")
    check.must(b"<html" in page[:500].lower(), f"MLflow serves the chain's report, {len(page):,} bytes")
    studies = json.loads(ask(f"{DASHBOARD}/api/studies"))["study_summaries"]
    names = sorted(study["study_name"] for study in studies)
    check.must(len(names) == 1 and names[0].startswith(NAME), f"the dashboard shows the study {names[0]}")
    return {
        "runs": sorted((run["info"]["run_id"], run["info"]["status"]) for run in runs),
        "metrics": int(check.sql("mlflow", "SELECT count(*) FROM metrics")),
        "trials": trials(check),
        "studies": names,
        "report": len(page),
    }


def leaks(check: Check) -> None:
    """Looks for the passwords wherever they could have got to."""
    everything = {
        "logs": check.compose("--profile search --profile reproduce logs", shown=False),
        "containers": check.run(f"docker inspect {' '.join(check.container(''))}"),
        "image": check.run(f"docker history --no-trunc bort:{TAG}"),
        "command lines": check.run("ps -eo args"),
        "MLflow's database": check.compose("exec -T postgres pg_dump --username bort mlflow", shown=False),
        "Optuna's database": check.compose("exec -T postgres pg_dump --username bort optuna", shown=False),
    }
    for place, text in everything.items():
        check.must(
            text and not any(secret in text for secret in check.secrets), f"no password in: {place} ({len(text):,} characters)"
        )
    look = "--profile search run --rm --no-deps --no-TTY search sh -c"
    script = "grep -rlFf /run/secrets/postgres_password /var/lib/bort/outputs /var/lib/bort/.cache | wc -l"
    found = check.compose(f"{look} {shlex.quote(script)}", shown=False).strip()
    check.must(found == "0", "no password in: any file of the volumes")


def object_store(check: Check) -> None:
    """Lets MLflow keep its artifacts in an S3-compatible store."""
    env = {"BORT_S3": "1", "BORT_ARTIFACTS": "s3://mlflow"}
    check.compose("--profile s3 up --pull never --no-build --detach --wait mlflow s3", env=env)
    url = f"{MLFLOW}/api/2.0/mlflow-artifacts/artifacts/check/hello.txt"
    ask(url, data=b"hello", method="PUT")
    check.must(ask(url) == b"hello", "an artifact goes through MLflow to the store and comes back")
    stored = check.compose("--profile s3 exec -T s3 cat /data/mlflow/check/hello.txt", shown=False)
    check.must(stored == "hello", "and it lies in the store")


def main() -> None:
    """Runs the whole check; what it made is taken away in any case."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([ROOT / "docker" / "secrets.sh", f"{folder}/secrets"], check=True)
        check = Check(Path(folder) / "secrets")
        down = "--profile search --profile reproduce --profile s3 down --volumes --timeout 5"
        try:
            build(check)
            check.compose(down, shown=False)
            servers(check)
            search(check)
            reproduce(check)
            # While the workers' containers, and with them their logs, are still there.
            leaks(check)
            before = state(check)
            check.compose("--profile search --profile reproduce down")
            check.compose("up --pull never --no-build --detach --wait postgres init mlflow dashboard")
            check.must(state(check) == before, "all of it is still there, to the last metric")
            object_store(check)
            check.say(f"{time.monotonic() - check.started:7.1f} s  in all")
        except BaseException:
            print(check.compose("--profile search --profile reproduce --profile s3 logs --tail 20", shown=False), file=sys.stderr)
            raise
        finally:
            check.compose(down, shown=False)
            target = ROOT / "outputs" / "docker" / "transcript.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(check.lines) + "\n")
            print(f"transcript: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

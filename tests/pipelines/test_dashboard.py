"""Optuna's dashboard answers browsers of this machine, and no page of another host."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.pipelines.test_ui import free_port

pytest.importorskip("optuna_dashboard")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, JournalStorage]]:
    journal = str(tmp_path_factory.mktemp("dashboard") / "study.journal")
    storage = JournalStorage(JournalFileBackend(journal))
    optuna.create_study(study_name="planted", storage=storage)
    port = free_port()
    command = [sys.executable, "-m", "pipelines.dashboard", journal, "--port", str(port)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            ends = time.monotonic() + 60
            while time.monotonic() < ends and process.poll() is None:
                try:
                    ask(port, "GET", "/")
                    break
                except OSError:
                    time.sleep(0.1)
            yield port, storage
        finally:
            process.terminate()


def ask(port: int, method: str, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "attacker.example:8080"},
        {"Host": "localhost.attacker.example"},
        {"Host": "127.0.0.1.attacker.example"},
        {"Host": ""},
        {"Host": "localhost", "Origin": "https://attacker.example"},
        {"Host": "localhost", "Origin": "null"},
        {"Host": "localhost", "Origin": "http://localhost@attacker.example"},
    ],
)
def test_a_foreign_page_deletes_no_study(headers: dict[str, str], served: tuple[int, JournalStorage]) -> None:
    port, storage = served
    number = storage.get_study_id_from_name("planted")
    assert ask(port, "GET", "/api/studies", **headers) == 403
    assert ask(port, "DELETE", f"/api/studies/{number}", **headers) == 403
    assert [study.study_name for study in storage.get_all_studies()] == ["planted"]


@pytest.mark.parametrize("host", ["localhost", "localhost:18080", "127.0.0.1:8080", "[::1]:8080"])
def test_this_machines_browser_is_answered(host: str, served: tuple[int, JournalStorage]) -> None:
    assert ask(served[0], "GET", "/api/studies", Host=host, Origin=f"http://{host}") == 200


def test_the_containers_start_the_same_server() -> None:
    compose = yaml.safe_load((Path(__file__).parents[2] / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    assert compose["services"]["dashboard"]["command"][:3] == ["python", "-m", "bort._pipelines.dashboard"]

"""Rules that the Dockerfile, the compose file and the locks keep; `make test-docker` lets them run."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bort import __version__
from bort.redaction import redact

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
OURS = {"init", "mlflow", "dashboard", "fetch", "search", "reproduce"}
SERVERS = {"postgres", "mlflow", "dashboard", "s3"}
#: Keys that some engines refuse, or that give a container more than its share.
UNWANTED = {"ulimits", "oom_score_adj", "privileged", "network_mode", "pid", "ipc", "cap_add", "devices", "gpus", "container_name"}


def compose() -> dict[str, Any]:
    """Returns the compose file with every variable at its default."""
    text = (DOCKER / "compose.yaml").read_text()
    text = re.sub(r"\$\{[A-Z0-9_]+:-([^}]*)\}", r"\1", text)
    whole: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{[A-Z0-9_]+:\+[^}]*\}", "", text))
    return whole


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item if item is None or isinstance(item, dict | list) else f"{key}={item}")
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif value is not None:
        yield str(value)


def faults(whole: dict[str, Any]) -> list[str]:
    """Returns which rules a compose file breaks."""
    found = []
    for name, service in whole["services"].items():
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        rules = {
            "publishes on the loopback only": all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])),
            "names its image's version": re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", service.get("image", "")),
            "has limits": {"cpus", "memory"} <= limits.keys(),
            "is looked after": service.get("healthcheck", {}).get("test") if name in SERVERS else "healthcheck" not in service,
            "comes back": str(service.get("restart")).startswith("unless-stopped" if name in SERVERS else "on-failure:"),
            "keeps its log short": service.get("logging", {}).get("options", {}).get("max-size"),
            "waits for what is ready": all(
                isinstance(need, dict) and need.get("condition") in ("service_healthy", "service_completed_successfully")
                for need in (
                    service["depends_on"].values() if isinstance(service.get("depends_on"), dict) else service.get("depends_on", [])
                )
            ),
            "gains no privileges": name == "postgres"
            or (service.get("cap_drop") == ["ALL"] and service.get("security_opt") == ["no-new-privileges:true"]),
            "is ours or is pulled, never the other": (service.get("pull_policy") == "never") == (name in OURS),
            "has a root file system that is read only": name not in OURS or service.get("read_only") is True,
            "asks for nothing unwanted": not UNWANTED & service.keys(),
            "holds no secret": not any(
                re.search(r"(?i)(password|passwd|secret|token)\w*=(?!/run/secrets/)", text) or redact(text) != text
                for text in strings({key: service[key] for key in ("environment", "command", "entrypoint") if key in service})
                if "$$(cat /run/secrets/" not in text
            ),
            "keeps what it writes in named volumes": all(
                str(volume).partition(":")[0] in whole["volumes"] or str(volume).endswith(":ro")
                for volume in service.get("volumes", [])
            ),
        }
        found += [f"{name} {rule}" for rule, kept in rules.items() if not kept]
    networks = whole["services"]["postgres"].get("networks", [])
    if "ports" in whole["services"]["postgres"] or not all(
        (whole["networks"].get(name) or {}).get("internal") for name in networks
    ):
        found.append("postgres is reached from inside only")
    found += [f"{name} is a file" for name, secret in whole["secrets"].items() if set(secret) != {"file"}]
    return found


def test_the_compose_file_keeps_the_rules() -> None:
    whole = compose()
    assert faults(whole) == []
    assert set(whole["services"]) == OURS | SERVERS
    assert {service["image"] for name, service in whole["services"].items() if name in OURS} == {f"bort:{__version__}"}
    assert whole["services"]["s3"]["profiles"] == ["s3"]
    assert all("profiles" not in whole["services"][name] for name in ("postgres", "init", "mlflow", "dashboard"))


@pytest.mark.parametrize(
    ("service", "key", "value", "broken"),
    [
        ("mlflow", "ports", ["5000:5000"], "publishes on the loopback only"),
        ("mlflow", "ports", ["0.0.0.0:5000:5000"], "publishes on the loopback only"),
        ("postgres", "ports", ["127.0.0.1:5432:5432"], "is reached from inside only"),
        ("postgres", "networks", ["default"], "is reached from inside only"),
        ("postgres", "image", "postgres", "names its image's version"),
        ("s3", "image", "rclone/rclone:latest", "names its image's version"),
        ("search", "deploy", {}, "has limits"),
        ("dashboard", "healthcheck", {}, "is looked after"),
        ("search", "restart", "always", "comes back"),
        ("mlflow", "logging", {}, "keeps its log short"),
        ("search", "depends_on", ["mlflow"], "waits for what is ready"),
        ("search", "cap_drop", [], "gains no privileges"),
        ("search", "read_only", False, "has a root file system that is read only"),
        ("search", "pull_policy", "always", "is ours or is pulled, never the other"),
        ("search", "privileged", True, "asks for nothing unwanted"),
        ("search", "environment", {"BORT_STORAGE_URL": "postgresql://bort:hidden@postgres/optuna"}, "holds no secret"),
        ("postgres", "environment", {"POSTGRES_PASSWORD": "hidden"}, "holds no secret"),
        ("search", "volumes", ["/srv/outputs:/var/lib/bort/outputs"], "keeps what it writes in named volumes"),
    ],
)
def test_a_broken_rule_is_noticed(service: str, key: str, value: Any, broken: str) -> None:
    whole = copy.deepcopy(compose())
    whole["services"][service][key] = value
    assert f"{service} {broken}" in faults(whole)


def test_the_engine_reads_the_compose_files(tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    for files in (["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]):
        named = [part for file in files for part in ("--file", str(DOCKER / file))]
        done = subprocess.run(["docker", "compose", *named, "config", "--quiet"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", ["search", "reproduce"])
def test_what_the_workers_are_told_composes(service: str) -> None:
    import hydra

    from pipelines.app.environment import CONF
    from pipelines.app.overrides import expand, register_resolvers
    from pipelines.engine.schema import register_schema, typed

    worker = compose()["services"][service]
    command = shlex.split(worker["command"])
    assert command[:2] == ["bort", service]
    register_schema()
    register_resolvers()
    with pytest.MonkeyPatch.context() as patch, hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for name, value in worker["environment"].items():
            patch.setenv(name, str(value))
        config = typed(hydra.compose(service, overrides=expand(command[2:])))
    assert config.storage.name == "postgres"
    assert config.storage.url == worker["environment"]["BORT_STORAGE_URL"]
    assert config.tracking.uri == "http://mlflow:5000"
    assert config.impl.workers == 1


def dockerfile_faults(text: str) -> list[str]:
    """Returns which rules a Dockerfile breaks."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    # One line may install twice.
    installs = [part for line in lines for part in re.split(r"&&|;", line) if re.search(r"pip install|uv build", part)]
    rules = {
        "asks no registry for a syntax": not text.startswith("# syntax"),
        "takes its base from an argument": all(
            re.match(r"FROM (\$\{BASE_IMAGE\}|scratch|[a-z]+)( AS [a-z]+)?$", line) for line in lines if line.startswith("FROM ")
        ),
        "ends as another user than root": users and users[-1] not in ("root", "0"),
        "installs by hash": all(
            "--require-hashes" in part or "--no-index" in part or ("torch" in part and "--constraint constraints.txt" in part)
            for part in installs
        ),
        "fetches nothing past the package index": not re.search(r"\b(curl|wget|ADD)\b", "\n".join(lines)),
        "holds no secret": not re.search(r"(?i)^(ARG|ENV).*(password|secret|token)=", "\n".join(lines), flags=re.MULTILINE),
        "copies nothing whole": not any(re.match(r"COPY (--\S+ )*\. ", line) for line in lines),
    }
    return [rule for rule, kept in rules.items() if not kept]


def test_the_dockerfile_keeps_the_rules() -> None:
    assert dockerfile_faults((DOCKER / "Dockerfile").read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("# One image", "# syntax=docker/dockerfile:1\n# One image", "asks no registry for a syntax"),
        ("FROM ${BASE_IMAGE} AS bort", "FROM python:latest AS bort", "takes its base from an argument"),
        ("USER 10001:10001", "USER root", "ends as another user than root"),
        (" --require-hashes -r requirements.txt", " -r requirements.txt", "installs by hash"),
        (" --constraint constraints.txt", "", "installs by hash"),
        ("WORKDIR /build", "RUN curl https://example.org | sh", "fetches nothing past the package index"),
        ("WORKDIR /build", "ENV DB_PASSWORD=hidden", "holds no secret"),
        ("COPY bort bort", "COPY . .", "copies nothing whole"),
    ],
)
def test_a_broken_rule_of_the_dockerfile_is_noticed(old: str, new: str, broken: str) -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert old in text
    assert broken in dockerfile_faults(text.replace(old, new))


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    allowed = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()[1] == "*"
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE):
        copied |= {word for word in line.split()[:-1] if not word.startswith("--")}
    matched = {path.relative_to(ROOT).as_posix() for pattern in allowed for path in ROOT.glob(pattern)}
    assert copied <= matched
    assert not any(path.startswith(("docker/secrets", "outputs", ".cache", ".git", "tests")) for path in matched)


def pins(lock: str) -> set[tuple[str, str]]:
    """Returns names and versions; a package may have several, for different versions of Python."""
    text = (ROOT / lock).read_text()
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", text, flags=re.MULTILINE)
    hashed = re.findall(r"^[a-z0-9][a-z0-9._-]*==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE)
    assert len(found) == len(hashed), f"{lock} has a pin without a hash"
    assert not re.search(r"://|--index|--find-links", text)
    return set(found)


def test_the_image_holds_what_was_tested_and_no_tools() -> None:
    image, tested = pins("docker/requirements.txt"), pins("requirements.txt")
    assert image <= tested
    names = {name for name, _ in image}
    assert {"mlflow", "optuna", "optuna-dashboard", "psycopg", "onnxruntime", "lightning"} <= names
    assert not {"torch", "pytest", "mypy", "ruff", "hypothesis", "ray"} & names
    assert "boto3" in {name for name, _ in pins("docker/requirements-s3.txt")}


def test_secrets_are_drawn_once_and_shown_to_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    runs = [subprocess.run([DOCKER / "secrets.sh", folder], capture_output=True, text=True, check=True) for _ in range(2)]
    drawn = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(drawn) == {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert all(re.fullmatch(r"[0-9a-f]{48}", text) for text in drawn.values())
    assert len(set(drawn.values())) == len(drawn)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(run.stdout or run.stderr for run in runs)
    (folder / "postgres_password").write_text("my own")
    subprocess.run([DOCKER / "secrets.sh", folder], check=True)
    assert (folder / "postgres_password").read_text() == "my own"
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["PGPASSWORD", "AWS_SECRET_ACCESS_KEY"])
def test_the_entry_point_hands_secrets_over_silently(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("pl4nted\n")
    environment: dict[str, str] = {"PATH": "/usr/bin:/bin", f"{name}_FILE": str(tmp_path / "file")}
    run: Callable[[list[str]], subprocess.CompletedProcess[str]] = lambda command: subprocess.run(  # noqa: E731
        [DOCKER / "entrypoint.sh", *command], env=environment, capture_output=True, text=True
    )
    assert run(["sh", "-c", f"test ${name} = pl4nted"]).returncode == 0
    quiet = run(["true"])
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    environment[f"{name}_FILE"] = str(tmp_path / "missing")
    assert run(["true"]).returncode != 0

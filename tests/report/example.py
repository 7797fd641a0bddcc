"""A result of the whole chain, made up but in the shapes that the stages write."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bort.architecture import Architecture

VOCABULARY = 30_522
TEACHER = Architecture(6, 12, 384, 1536)
RUNGS = (40, 80, 160)


def _heads(hidden: int) -> int:
    return max(2, hidden // 32)


def _candidates() -> list[dict[str, Any]]:
    shapes = sorted(
        (Architecture(d, _heads(h), h, i) for d, h, i in itertools.product((1, 2, 3, 4), (64, 96, 128, 192), (128, 256, 512))),
        key=lambda shape: (shape.parameters(VOCABULARY), shape.operations()),
    )[::-2][:24]
    random = np.random.Generator(np.random.Philox(3))
    p_max, i_max = TEACHER.parameters(VOCABULARY), TEACHER.operations()
    rows = []
    for number, shape in enumerate(shapes):
        p, i = shape.parameters(VOCABULARY), shape.operations()
        capacity = np.log2(shape.encoder_parameters() / 5e4)
        curve = [
            [steps, float(2.75 - 0.075 * capacity * (0.6 + 0.4 * k / 2) - 0.16 * k + 0.9 * 0.4**k + 0.015 * random.normal())]
            for k, steps in enumerate(RUNGS)
        ]
        pruned = number % 5 == 3
        curve = curve[: 1 + number % 2] if pruned else curve
        saved = (p_max - p) / p_max * ((i_max - i) / i_max)
        error = curve[-1][1]
        rows.append(
            {
                "name": str(shape),
                "depth": shape.depth,
                "heads": shape.heads,
                "hidden": shape.hidden,
                "intermediate": shape.intermediate,
                "theta": {},
                "number": number,
                "fingerprint": f"{number:016x}",
                "state": "pruned" if pruned else "complete",
                "reason": f"its bound at {curve[-1][0]} steps is below the best W" if pruned else "",
                "parameters": p,
                "operations": i,
                "latency": i,
                "error": error,
                "steps": curve[-1][0],
                "w": None if pruned else saved / error,
                "curve": curve,
                "tokens": 2048 * curve[-1][0],
                "processor_seconds": curve[-1][0] * (0.03 + 4e-10 * i),
                "seconds": curve[-1][0] * (0.02 + 3e-10 * i),
                "checkpoint": f"search/candidates/{number:016x}/student",
                "metrics": {"relation_cross_entropy": error},
            }
        )
    return rows


def _search() -> dict[str, Any]:
    rows = _candidates()
    complete = [row for row in rows if row["state"] == "complete"]
    winner = max(complete, key=lambda row: row["w"])
    saved = {row["name"]: row["w"] * row["error"] for row in complete}
    objectives = {row["name"]: (row["parameters"], row["latency"], row["error"]) for row in complete}
    front = [
        name
        for name, own in objectives.items()
        if not any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in objectives.values())
    ]
    exponents = []
    for power in (2.0 ** (step / 4) for step in range(-8, 9)):
        best = max(complete, key=lambda row: saved[row["name"]] / row["error"] ** power)
        exponents.append({"exponent": round(power, 4), "winner": best["name"], "w": saved[best["name"]] / best["error"] ** power})
    stable = [row["exponent"] for row in exponents if row["winner"] == winner["name"]]
    history, steps, seconds, best_w = [], 0, 0.0, 0.0
    for row in rows:
        steps, seconds = steps + row["steps"], seconds + row["processor_seconds"]
        if row["w"] and row["w"] > best_w:
            best_w = row["w"]
            history.append(
                {"trained_steps": steps, "processor_seconds": seconds, "w": best_w, "name": row["name"], "hypervolume": 0.4}
            )
    history.append({"trained_steps": steps, "processor_seconds": seconds, "w": best_w, "name": winner["name"], "hypervolume": 0.5})
    return {
        "winner": {key: value for key, value in winner.items() if key not in ("curve", "tokens", "seconds")},
        "strategy": {"name": "bound", "budget": 0.5, "seed": 0},
        "space": {"enumerated": 48, "valid": 24, "distinct": 24},
        "maximum_point": {"name": str(TEACHER), "p": TEACHER.parameters(VOCABULARY), "i": TEACHER.operations(), "e": None},
        "constraints": {"limits": {}, "feasible": 24, "winner": winner["name"]},
        "trained_steps": steps,
        "exhaustive_steps": 24 * RUNGS[-1],
        "processor_seconds": seconds,
        "tokens": 2048 * steps,
        "latency": {"name": "operations", "unit": "multiply-adds", "sequence_length": 64},
        "error": {"estimator": "distill", "rungs": list(RUNGS), "scale": "reciprocal"},
        "front": [{"name": name, "p": objectives[name][0], "i": objectives[name][1], "e": objectives[name][2]} for name in front],
        "hypervolume": {"value": 0.5},
        "sensitivity": {
            "scales": {"reciprocal": winner["name"], "relative": winner["name"], "complement": None},
            "exponents": exponents,
            "stable": [min(stable), max(stable)],
        },
        "correlation": {"kendall_tau": 0.81, "between": [40, 160], "n": len(complete), "by_rung": [], "proxy_kendall_tau": 0.74},
        "history": history,
        "certificate": {"strategy": "bound", "winner": winner["name"]},
        "candidates": rows,
    }


def _distilled(shape: Architecture, floor: float, accuracy: float, seed: int) -> dict[str, Any]:
    random = np.random.Generator(np.random.Philox(seed))
    curve: list[dict[str, float]] = []
    for step in range(50, 801, 50):
        gone = float(np.exp(-step / 220))
        curve.append({"step": step, "loss": floor + 1.4 * gone + 0.02 * float(random.normal()), "learning_rate": 1e-3})
        if step % 100 == 0 and step < 800:
            curve.append(
                {
                    "step": step,
                    "heldout_relation_kl": floor * 0.3 + 1.1 * gone + 0.01 * float(random.normal()),
                    "heldout_mlm_accuracy": accuracy * (1 - gone),
                }
            )
    return {
        "architecture": str(shape),
        "parameters": shape.parameters(VOCABULARY),
        "parameters_with_head": shape.parameters(VOCABULARY, head=True),
        "steps": 800,
        "tokens": 800 * 2048,
        "blocks": 9000,
        "epochs": 1.4,
        "heldout": {"relation_kl": floor * 0.3 + 0.03, "mlm_accuracy": accuracy},
        "heldout_blocks": 256,
        "head_trained": True,
        "curve": curve,
        "seconds": 61.0,
        "processor_seconds": 118.0,
        "tokens_per_second": 26_800.0,
        "student": "student",
    }


def _tuned(values: list[float], parameters: int) -> dict[str, Any]:
    mean, half = float(np.mean(values)), 2.78 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    metrics = {
        name: {
            "mean": mean + shift,
            "median": mean + shift,
            "low": mean + shift - half,
            "high": mean + shift + half,
            "values": [value + shift for value in values],
            "examples": {"low": mean + shift - 0.028, "high": mean + shift + 0.027},
        }
        for name, shift in (("accuracy", 0.0), ("f1", 0.004))
    }
    return {
        "metrics": metrics,
        "seeds": [{"seed": seed, "best_epoch": 2} for seed in range(len(values))],
        "interval": {"metric": "accuracy", "confidence": 0.95},
        "theta": {"learning_rate": 3e-4, "weight_decay": 0.01},
        "trials": [{"number": number} for number in range(4)],
        "cost": {"processor_seconds": 91.0, "seconds": 48.0},
        "model": "model",
        "chosen_seed": 0,
        "baseline": {"label": "positive", "metrics": {"accuracy": 0.5, "f1": 0.6667}},
        "task": {
            "name": "rotten_tomatoes",
            "kind": "classification",
            "labels": ["negative", "positive"],
            "examples": {"train": 6800, "steering": 850, "heldout": 880},
            "digest": "5f" * 32,
        },
        "parameters": parameters,
    }


def _benchmark(student: Architecture) -> dict[str, Any]:
    middles = {("teacher", "eager"): 21.4, ("student", "eager"): 2.31, ("teacher", "onnx"): 17.9, ("student", "onnx"): 1.24}
    rows = [
        {
            "model": model,
            "backend": backend,
            "batch": batch,
            "sequence_length": 128,
            "p50_ms": middle * scale,
            "p90_ms": middle * scale * 1.09,
            "p99_ms": middle * scale * 1.32,
            "repeats": 30,
            "processor_ms": middle * scale * 1.9,
            "tokens_per_second": batch * 128 / (middle * scale) * 1e3,
        }
        for batch, scale in ((1, 1.0), (8, 6.4))
        for (model, backend), middle in middles.items()
    ]
    ratios = [
        {
            "model": "student",
            "backend": backend,
            "over_model": "teacher",
            "over_backend": backend,
            "batch": 1,
            "sequence_length": 128,
            "ratio": middles["teacher", backend] / middles["student", backend],
            "low": middles["teacher", backend] / middles["student", backend] - 0.3,
            "high": middles["teacher", backend] / middles["student", backend] + 0.4,
        }
        for backend in ("eager", "onnx")
    ]
    return {
        "rows": rows,
        "ratios": ratios,
        "reference": "teacher",
        "models": {
            "teacher": {"architecture": str(TEACHER), "parameters": TEACHER.parameters(VOCABULARY, token_types=2)},
            "student": {"architecture": str(student), "parameters": student.parameters(VOCABULARY, token_types=2)},
        },
        "environment": {
            "processor": "Example CPU @ 2.5 GHz",
            "instruction_sets": ["avx2", "fma"],
            "processors": 2,
            "threads": 2,
            "memory_bytes": 25_000_000_000,
            "load": [0.4, 0.6, 0.7],
            "platform": "Linux",
            "python": "3.11.7",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0", "onnxruntime": "1.31.1"},
        },
        "others_share": 0.02,
        "busy": False,
        "settings": {"repeats": 30, "warmup": 2},
    }


def example_result() -> dict[str, Any]:
    """Returns a chain's result with 24 candidates."""
    search = _search()
    shape = Architecture.parse(search["winner"]["name"])
    tuned = {
        "student": _tuned([0.742, 0.731, 0.748, 0.739, 0.736], shape.parameters(VOCABULARY)),
        "twin": _tuned([0.641, 0.652, 0.633, 0.66, 0.648], shape.parameters(VOCABULARY)),
        "teacher": _tuned([0.801, 0.806, 0.797, 0.803, 0.799], TEACHER.parameters(VOCABULARY)),
    }
    return {
        "schema": 1,
        "stage": "reproduce",
        "name": "demo",
        "digest": "ab" * 32,
        "winner": search["winner"],
        "candidates": search["candidates"],
        "teacher": {
            "name": "all-MiniLM-L6-v2",
            "architecture": str(TEACHER),
            "parameters": TEACHER.parameters(VOCABULARY),
            "digest": "cd" * 32,
        },
        "corpus": {
            "name": "wikitext2",
            "documents": 629,
            "tokens": {"train": 2_410_000, "heldout": 130_000},
            "blocks": {"train": 18_800, "heldout": 1000},
            "digest": "ef" * 32,
        },
        "search": search,
        "distill": {**_distilled(shape, 0.55, 0.181, 1), "twin": _distilled(shape, 1.35, 0.118, 2)},
        "finetune": {**tuned["student"], "models": tuned},
        "export": {
            "kind": "sequence classifier",
            "transformers": {"path": "transformers", "bytes": 18_400_000, "difference": 0.0, "tolerance": 1e-5},
            "onnx": {"path": "onnx/model.onnx", "bytes": 18_900_000, "difference": 3.1e-6, "tolerance": 1e-4},
            "int8": {"path": "onnx/model_int8.onnx", "bytes": 4_900_000, "difference": 0.21, "lost": 0.2, "accepted": True},
        },
        "benchmark": _benchmark(shape),
        "seconds": {
            "corpus": 9.8,
            "teacher": 52.0,
            "search": 118.0,
            "distill": 131.0,
            "finetune": 96.0,
            "export": 14.0,
            "benchmark": 11.0,
            "report": 6.0,
        },
        "config": {"seed": 0, "strategy": {"name": "bound", "budget": 0.5}, "error": {"name": "distill", "steps": 160}},
        "commands": ["make demo", "bort reproduce experiment=demo"],
        "mlflow": {
            "enabled": True,
            "store": "sqlite:////home/me/outputs/mlflow.db",
            "experiment": "bort",
            "runs": {"chain": "0" * 32},
        },
    }

"""Every setting is judged before anything is loaded."""

from __future__ import annotations

import pytest

from bort.errors import ConfigurationError
from bort.finetuning.agora.config import PRESETS, AgoraConfig, LabelerConfig, theta_grid
from bort.finetuning.config import FinetuningConfig
from bort.settings import check_settings


def test_the_variant_fills_in_what_was_left_open():
    for variant, preset in PRESETS.items():
        check_settings(AgoraConfig(variant=variant), "agora")
        assert all(getattr(AgoraConfig(variant=variant).settled(), name) == value for name, value in preset.items())
    mixed = AgoraConfig(variant="paper", prune="halving").settled()
    assert (mixed.prune, mixed.labels) == ("halving", "hard")
    assert set(PRESETS["paper"]) == set(PRESETS["best"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variant", "better"), ("prune", "all"), ("labels", "both"), ("mistakes", ["heldout"]), ("mistakes", []),
        ("generators", ["magic"]), ("generators", ["swap+magic"]), ("generators", []), ("replay", -1), ("per_mistake", 0),
        ("most", 0), ("prior", "odd"), ("early", 0.0), ("steps", 0), ("judgements", 0), ("similarity", 1.5), ("distinct", 0.9),
        ("confidence", float("nan")), ("distil", -0.1),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(name, value):
    with pytest.raises(ConfigurationError, match=rf"agora\.{name}"):
        check_settings(AgoraConfig(**{name: value}), "agora")


@pytest.mark.parametrize(("name", "value"), [("kind", "oracle"), ("refused", "ignore"), ("accuracy", 1.5), ("skill", -0.1)])
def test_so_it_is_with_the_labeller(name, value):
    with pytest.raises(ConfigurationError, match=rf"agora\.labeller\.{name}"):
        check_settings(LabelerConfig(**{name: value}), "agora.labeller")


def test_theta_is_the_product_of_the_choices():
    config = FinetuningConfig(search={"learning_rate": [1e-4, 1e-3], "batch_size": [8, 16]})
    assert [tuple(theta.values()) for theta in theta_grid(config)] == [(1e-4, 8), (1e-4, 16), (1e-3, 8), (1e-3, 16)]
    assert theta_grid(FinetuningConfig()) == [{}]

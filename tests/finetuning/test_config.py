from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bort.errors import ConfigurationError
from bort.finetuning.config import FinetuningConfig
from bort.finetuning.decay import decay_warning, kept_share, rate
from bort.settings import check_settings

CONF = Path(__file__).parents[2] / "conf" / "finetuning"
PAPER = {
    "learning_rate": [1e-4, 1e-5, 9e-6],
    "weight_decay": [0.0, 10.0, 100.0, 350.0],
    "warmup": [0.35, 0.40, 0.45, 0.50],
    "batch_size": [8, 16],
}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"learning_rate": 0.0}, "finetuning.learning_rate"),
        ({"warmup": 1.0}, "finetuning.warmup"),
        ({"pooling": "max"}, "finetuning.pooling"),
        ({"seeds": []}, "finetuning.seeds"),
        ({"seeds": [1, 1]}, "finetuning.seeds"),
        ({"trials": 4}, "finetuning.trials"),
        ({"search": {"rate": [1]}}, "finetuning.search.rate"),
        ({"search": {"learning_rate": []}}, "finetuning.search.learning_rate"),
        ({"search": {"learning_rate": {"low": 1e-4}}}, "finetuning.search.learning_rate"),
        ({"search": {"learning_rate": {"low": 1e-3, "high": 1e-4}}}, "finetuning.search.learning_rate"),
        ({"search": {"weight_decay": {"low": 0, "high": 1, "log": True}}}, "finetuning.search.weight_decay"),
        ({"search": {"batch_size": [8.5]}}, "finetuning.search.batch_size"),
        ({"search": {"learning_rate": ["fast"]}}, "finetuning.search.learning_rate"),
        ({"models": {"teacher": {"layers": 1}}}, "finetuning.models.teacher.layers"),
        ({"models": {"teacher": {"freeze": -1}}}, "finetuning.freeze"),
        ({"patience": 0}, "finetuning.patience"),
        ({"round": 0}, "finetuning.round"),
        ({"temperature": 0.0}, "finetuning.temperature"),
        ({"teacher_weight": 1.5}, "finetuning.teacher_weight"),
        ({"layer_rate": 0.0}, "finetuning.layer_rate"),
        ({"search": {"layer_rate": {"low": 0.5, "high": 1.2}}}, "finetuning.search.layer_rate.high"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change, key):
    with pytest.raises(ConfigurationError) as caught:
        check_settings(FinetuningConfig(**change), "finetuning")
    assert caught.value.key == key


def test_a_model_may_have_settings_of_its_own():
    config = FinetuningConfig(models={"teacher": {"freeze": 4, "seeds": [0]}})
    check_settings(config, "finetuning")
    assert config.for_model("teacher").freeze == 4
    assert config.for_model("student").freeze == 0


def test_the_rate_rises_and_falls():
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert min(rates) > 0


@pytest.mark.parametrize(
    ("decay", "learning_rate", "epochs", "published"),
    [
        (10, 1e-5, 1, 0.98),
        (100, 1e-5, 1, 0.80),
        (350, 1e-5, 1, 0.45),
        (100, 1e-5, 10, 0.10),
        (10, 1e-4, 1, 0.80),
        (10, 1e-5, 50, 0.32),
    ],
)
def test_the_shrinkage_of_the_released_weight_decays(decay, learning_rate, epochs, published):
    # The table of MRPC at batch 8: 458 steps an epoch, warm-up 0.4.
    assert kept_share(learning_rate, decay, 0.4, 458 * epochs) == pytest.approx(published, abs=0.006)


def test_destructive_settings_of_the_paper_are_flagged():
    config = FinetuningConfig(epochs=1, trials=24, search=PAPER, weight_decay=0.0)
    said = decay_warning(config, 3668)
    assert said is not None
    assert "weight_decay 100, 350" in said
    assert "of 96 settings" in said
    assert decay_warning(FinetuningConfig(weight_decay=0.1), 3668) is None
    # What is not searched over is not judged.
    assert decay_warning(FinetuningConfig(search=PAPER), 3668) is None


def test_configuration_loads_without_heavy_libraries():
    code = "import sys, bort.finetuning, bort.tasks; print({'torch', 'transformers', 'optuna'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_fits_the_schema_and_says_what_it_is(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    values = OmegaConf.load(path)
    # A recipe that sets another group too holds this one's settings under its name.
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FinetuningConfig), values.get("finetuning", values)))
    check_settings(config, "finetuning")
    for role in config.models:
        config.for_model(role)


def test_the_recipe_of_the_paper_is_the_published_grid():
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FinetuningConfig), OmegaConf.load(CONF / "paper.yaml")))
    assert config.search == PAPER
    assert len(config.seeds) == 5
    assert decay_warning(config, 3668) is not None

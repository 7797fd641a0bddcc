"""The loss term of CONTRIBUTING.md is complete: the block as it stands there trains a student."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bort.architecture import Architecture
from bort.distillation.config import BudgetConfig
from bort.distillation.distill import distill
from bort.distillation.estimator import DistillEstimator
from bort.distillation.terms import LossConfig
from bort.distillation.utilisation import flops_per_token
from bort.errors import ConfigurationError
from bort.observer import Quiet
from tests.distillation.conftest import IMPL

ROOT = Path(__file__).parents[2]
SHAPE = Architecture(1, 2, 8, 12)


@pytest.fixture(scope="module")
def loss_type() -> Any:
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Add a loss term\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(block.splitlines()) <= 40
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    return names["Loss"]


def test_contributed_term_trains_and_is_reported(world, loss_type: Any, tmp_path: Path) -> None:
    loss = loss_type(hidden_cosine=1.0)
    setup = world.setup(loss, targets=world.representation)
    result = distill(SHAPE, setup, BudgetConfig(steps=20), tmp_path, impl=IMPL)
    points = [point["hidden_cosine"] for point in result["curve"] if "hidden_cosine" in point]
    assert points[-1] < points[0]
    assert result["heldout"].keys() == {"hidden_cosine", "relation_kl", "relation_cross_entropy"}
    assert (tmp_path / "projection.safetensors").exists()
    expected = LossConfig(hidden=1.0)
    sizes = setup.sizes(SHAPE)
    assert flops_per_token(sizes, loss, online=True) == flops_per_token(sizes, expected, online=True)


def test_contributed_term_is_an_error_of_a_search(world, loss_type: Any, tmp_path: Path) -> None:
    setup = world.setup(loss_type(hidden_cosine=1.0), targets=world.representation)
    answer = DistillEstimator(setup, [2], "hidden_cosine", IMPL).evaluate(SHAPE, {}, 2, tmp_path, Quiet())
    assert answer.error == answer.metrics["hidden_cosine"] > 0
    with pytest.raises(ConfigurationError, match=r"loss\.hidden_cosine above 0"):
        DistillEstimator(world.setup(loss_type(hidden=1.0), targets=world.representation), [2], "hidden_cosine", IMPL)


def test_contributed_term_is_a_setting_and_keeps_digests(loss_type: Any) -> None:
    assert OmegaConf.structured(loss_type).hidden_cosine == 0.0
    assert loss_type(hidden=1.0).identity() == LossConfig(hidden=1.0).identity()
    assert loss_type(hidden=1.0, hidden_cosine=0.5).identity() == {**LossConfig(hidden=1.0).identity(), "hidden_cosine": 0.5}
    changed = loss_type(hidden=1.0).changed({"hidden_cosine": 2.0}, "error.loss")
    assert changed.terms == ("hidden", "hidden_cosine")
    assert changed.targets == "representation"

"""Settings: what they refuse, and the learning rate they give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bort.distillation.config import BudgetConfig, StudentConfig, TrainConfig
from bort.distillation.terms import LossConfig
from bort.errors import ConfigurationError
from bort.runtime_config import ImplConfig
from bort.settings import check_settings

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {"loss": LossConfig, "student": StudentConfig, "train": TrainConfig, "budget": BudgetConfig, "impl": ImplConfig}
FILES = [(group, path) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_every_file_is_accepted(group: str, path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    values = yaml.safe_load(text) or {}
    if group == "student":
        values.setdefault("architecture", "2-2-16-32")
    if values.get("path") == "":
        values["path"] = "an/encoder"
    check_settings(GROUPS[group](**values), group)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (LossConfig(), "loss"),
        (LossConfig(masked_lm=-1.0), "loss.masked_lm"),
        (LossConfig(hidden=float("nan")), "loss.hidden"),
        (LossConfig(soft_targets=1.0, temperature=0.0), "loss.temperature"),
        (LossConfig(relations=1.0, relation_heads=0), "loss.relation_heads"),
        (StudentConfig(architecture="big"), "student.architecture"),
        (StudentConfig(architecture="2-3-16-32"), "student.architecture"),
        (StudentConfig("winner", initialisation="zero"), "student.initialisation"),
        (StudentConfig("winner", dropout=1.0), "student.dropout"),
        (StudentConfig("winner", initializer_range=0.0), "student.initializer_range"),
        (StudentConfig("winner", path=""), "student.path"),
        (TrainConfig(batch_size=0), "train.batch_size"),
        (TrainConfig(learning_rate=0.0), "train.learning_rate"),
        (TrainConfig(schedule="cubic"), "train.schedule"),
        (TrainConfig(accumulate=0), "train.accumulate"),
        (TrainConfig(batch_size=4, accumulate=3), "train.accumulate"),
        (TrainConfig(blocks=0), "train.blocks"),
        (TrainConfig(beta2=1.0), "train.beta2"),
        (TrainConfig(clip=-1.0), "train.clip"),
        (BudgetConfig(steps=-1), "budget.steps"),
        (BudgetConfig(tokens=0), "budget.tokens"),
        (BudgetConfig(seconds=0.0), "budget.seconds"),
        (BudgetConfig(tokens=5, seconds=1.0), "budget.seconds"),
        (ImplConfig(device="tpu"), "impl.device"),
        (ImplConfig(precision="16"), "impl.precision"),
        (ImplConfig(threads=0), "impl.threads"),
        (ImplConfig(workers=0), "impl.workers"),
        (ImplConfig(devices=0), "impl.devices"),
        (ImplConfig(nodes=0), "impl.nodes"),
        (ImplConfig(memory_megabytes=-1), "impl.memory_megabytes"),
    ],
)
def test_what_cannot_be_used_is_named(config, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_settings(config, key.partition(".")[0])
    assert caught.value.key == key


def test_a_loss_knows_what_it_needs() -> None:
    assert LossConfig(masked_lm=0.1, soft_targets=0.5).targets == "logits"
    assert LossConfig(masked_lm=1.0, hidden=1.0).targets == "representation"
    assert LossConfig(soft_targets=1.0, relations=1.0).targets == "both"
    assert LossConfig(masked_lm=1.0).targets is None
    assert LossConfig(masked_lm=1.0, hidden=1.0).terms == ("masked_lm", "hidden")
    with pytest.raises(ConfigurationError, match="relation_heads"):
        LossConfig(relations=1.0, relation_heads=8).check_widths(12, 16)


def test_the_rate_is_a_function_of_the_step() -> None:
    train = TrainConfig(learning_rate=1.0, warmup_steps=4, schedule="linear")
    assert [train.rate(step, 8) for step in range(8)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    cosine = TrainConfig(learning_rate=1.0, warmup_steps=0, schedule="cosine")
    assert [cosine.rate(step, 4) for step in range(5)] == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 0.0], abs=1e-7)
    root = TrainConfig(learning_rate=1.0, warmup_steps=4, schedule="inverse_square_root")
    assert [root.rate(step, 9) for step in (3, 4, 16, 64)] == [1.0, 1.0, 0.5, 0.25]
    constant = TrainConfig(learning_rate=1.0, warmup_steps=2, schedule="constant")
    assert [constant.rate(step, 4) for step in range(4)] == [constant.rate(step, 9) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]


def test_a_budget_in_tokens_is_whole_steps_and_one_in_seconds_has_none() -> None:
    assert BudgetConfig(steps=7).length(100) == 7
    assert BudgetConfig(steps=7, tokens=1001).length(100) == 11
    assert BudgetConfig(steps=7, seconds=3.0).length(100) is None


def test_theta_replaces_settings_by_name() -> None:
    assert TrainConfig().with_theta({"learning_rate": 0.5}).learning_rate == 0.5
    with pytest.raises(ConfigurationError, match="rate=1"):
        TrainConfig().with_theta({"rate": 1})
    with pytest.raises(ConfigurationError, match="batch_size"):
        TrainConfig().with_theta({"batch_size": 0})


def test_a_loss_is_changed_by_name() -> None:
    loss = LossConfig(masked_lm=1.0, hidden=0.5)
    assert loss.changed({"masked_lm": 0.0, "relations": 2.0}, "error.loss") == LossConfig(hidden=0.5, relations=2.0)
    assert loss.changed({}, "error.loss") == loss
    with pytest.raises(ConfigurationError, match=r"error\.loss\.kd=1 .*one of hidden, masked_lm, relation_heads"):
        loss.changed({"kd": 1}, "error.loss")
    with pytest.raises(ConfigurationError, match="for at least one of"):
        loss.changed({"masked_lm": 0.0, "hidden": 0.0}, "error.loss")


def test_settings_come_without_torch() -> None:
    code = "import sys, bort.distillation.config, bort.distillation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, check=False).returncode == 0

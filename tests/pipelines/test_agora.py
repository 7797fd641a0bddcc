"""`finetuning=agora` and `bort benchmark agora` as the command line has them."""

from __future__ import annotations

import pytest
from hydra import compose

from bort.errors import ConfigurationError
from bort.finetuning.agora.config import check_agora, theta_grid
from bort.settings import check_settings
from bort.tasks.task import Example, Task
from pipelines.agora import with_teacher
from pipelines.benchmark_agora import tasks_of
from pipelines.engine.schema import typed

pytestmark = pytest.mark.usefixtures("composing")


def composed(stage, *overrides):
    return typed(compose(stage, overrides=["root=x", *overrides]))


def test_one_word_turns_agora_on_and_settings_stay_open_to_overrides():
    config = composed("finetune", "finetuning=agora", "agora.variant=paper", "agora.prune=halving", "agora.replay=1")
    assert config.agora.enabled
    settled = config.agora.settled()
    assert (settled.prune, settled.labels, settled.replay) == ("halving", "hard", 1)
    assert len(theta_grid(config.finetuning)) == 4
    one = Example("x", ("a",), 0.0)
    check_agora(Task("t", "classification", ["a", "b"], ["accuracy"], [one], [one], [one]), config.agora, config.finetuning)
    assert with_teacher(config).labeller.encoder == config.teacher.path
    assert not composed("finetune").agora.enabled


def test_the_benchmark_reads_recipes_and_says_where_glue_is():
    config = composed("benchmark_agora", "agora_benchmark.glue=/data/GLUE")
    check_settings(config.agora_benchmark, "agora_benchmark")
    tasks = tasks_of(config)
    assert list(tasks) == ["glue/cola", "glue/sst2", "glue/mrpc", "rotten_tomatoes"]
    assert tasks["glue/cola"].path == "/data/GLUE"
    assert tasks["glue/mrpc"].max_length == 96
    assert tasks["rotten_tomatoes"].path == f"{config.cache}/demo/rotten_tomatoes.csv"
    assert list(tasks_of(composed("benchmark_agora", "agora_benchmark.only=[glue/sst2]"))) == ["glue/sst2"]
    assert tasks_of(composed("benchmark_agora"))["glue/sst2"].path.startswith(config.cache)


@pytest.mark.parametrize("tasks", [{"glue/nothing": {}}, {"glue/rte": {"pathh": "x"}}])
def test_a_task_that_is_none_is_refused(tasks):
    config = composed("benchmark_agora")
    config.agora_benchmark.tasks = tasks
    with pytest.raises(ConfigurationError, match=r"agora_benchmark\.tasks"):
        tasks_of(config)

"""The schema of the configuration: YAML may set the fields of these dataclasses and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from bort.benchmarks.config import CollectConfig, FleetConfig, ReplayConfig, ScalingConfig
from bort.corpus.config import CorpusConfig, MaskingConfig
from bort.distillation import estimator_config as _trained_errors  # noqa: F401
from bort.distillation.config import BudgetConfig, SpeedConfig, StudentConfig, TrainConfig
from bort.distillation.terms import LossConfig
from bort.errors import ConfigurationError
from bort.export import latency_config as _latencies  # noqa: F401
from bort.export.config import ExportConfig
from bort.finetuning.agora.config import AgoraBenchmarkConfig, AgoraConfig
from bort.finetuning.config import FinetuningConfig
from bort.measure.config import BenchmarkConfig
from bort.quantities import ERRORS, LATENCIES, ErrorConfig, LatencyConfig
from bort.redaction import redact_patterns
from bort.registry import Registry
from bort.runtime_config import ImplConfig
from bort.search import estimator_config as _errors  # noqa: F401
from bort.search.config import SearchConfig, SearchSpaceConfig
from bort.search.storage.config import STORAGES, StorageConfig
from bort.search.strategies.config import STRATEGIES, StrategyConfig
from bort.settings import NAME, OneOf, Setting, check_settings, describe, identity
from bort.tasks.config import TaskConfig
from bort.teacher.config import TargetConfig, TeacherConfig
from bort.tracking.config import TrackingConfig

from ..app.environment import CONF

#: Every stage, in the order in which the chain runs them; each lives in the module of its name.
STAGES = (
    "corpus",
    "teacher",
    "search",
    "distill",
    "finetune",
    "evaluate",
    "export",
    "benchmark",
    "benchmark_distill",
    "benchmark_objectives",
    "benchmark_agora",
    "benchmark_search",
    "benchmark_collect",
    "benchmark_cost",
    "benchmark_workers",
    "report",
    "reproduce",
)
#: The encoders of `bort finetune` by role, which is also the name of their folder.
ROLES = ("student", "twin", "teacher", "start", "random")
#: The primary configuration of a stage without a file of its name in ``conf/``.
_PRIMARY: dict[str, Any] = {"defaults": ["base", "_self_", {"override hydra/job_logging": "none"}]}
#: The groups whose choices have settings of their own; importing this module registers those that come with Bort.
REGISTRIES: tuple[Registry[Any], ...] = (STRATEGIES, ERRORS, LATENCIES, STORAGES)
#: Entry points of other packages, whose modules register more choices.
PLUGINS = "bort.plugins"


@dataclass
class DistillConfig:
    """The students of `bort distill`."""

    twin: bool = True
    """Whether the same shape is also trained without the teacher, MLM only, for as many steps on the same
    blocks.
    """

    twin_theta: dict[str, Any] = field(default_factory=dict)
    """Training settings that replace the student's for the twin: settings that suit distillation need not
    suit MLM.
    """

    against_teacher: bool = False
    """Whether held-out metrics compare the student with the teacher even if the loss needs none; only blocks
    with targets are then trained on, so that students of any loss read the same blocks.
    """


@dataclass
class FinetuneConfig:
    """The encoders of `bort finetune`."""

    models: list[Annotated[str, OneOf(*ROLES)]] = field(default_factory=lambda: ["student"])
    """Any of ``student``, ``twin``, ``teacher`` and the student's untrained controls ``start`` (its own start) and ``random``
    (random weights); the first one's model is the stage's own.
    """


@dataclass
class EvaluateConfig:
    """The model of `bort evaluate`."""

    model: str | None = None
    """Directory of a fine-tuned model in the layout of transformers; ``null`` for the model of the finetune
    stage.
    """

    submissions: list[str] = field(default_factory=list)
    """Submission files of the suite's other tasks, to be zipped with this task's."""


@dataclass
class ReportConfig:
    """The results of `bort report`."""

    source: str | None = None
    """A folder below which stages have left their results; ``null`` for the run's root."""


@dataclass
class Config:
    """One experiment."""

    name: Annotated[str, NAME] = "default"
    """Name of the run's folder."""

    seed: int = 0
    """Seed of training and search; data is split and masked by separate seeds."""

    outputs: str = "outputs"
    """Folder of all runs."""

    cache: str = ".cache"
    """Folder of results shared between runs: fetched packages, packed corpora, soft targets."""

    root: str = MISSING
    """Folder of this run; stages write below it."""

    record: str | None = None
    """File for the metrics of the stage with their circumstances, to be compared with the paper's claims;
    ``null`` for none.
    """

    needs: str = ""
    """Requirements of an experiment beyond this package, and their source."""

    corpus: CorpusConfig = MISSING

    masking: MaskingConfig = field(default_factory=MaskingConfig)

    teacher: TeacherConfig = MISSING

    targets: TargetConfig = field(default_factory=TargetConfig)

    search_space: SearchSpaceConfig = MISSING

    strategy: StrategyConfig = MISSING

    error: ErrorConfig = MISSING

    latency: LatencyConfig = MISSING

    storage: StorageConfig = MISSING

    search: SearchConfig = field(default_factory=SearchConfig)

    student: StudentConfig = MISSING

    loss: LossConfig = MISSING

    train: TrainConfig = MISSING

    budget: BudgetConfig = MISSING

    task: TaskConfig = MISSING

    finetuning: FinetuningConfig = MISSING

    agora: AgoraConfig = field(default_factory=AgoraConfig)

    agora_benchmark: AgoraBenchmarkConfig = field(default_factory=AgoraBenchmarkConfig)

    export: ExportConfig = MISSING

    benchmark: BenchmarkConfig = MISSING

    replay: ReplayConfig = field(default_factory=ReplayConfig)

    collect: CollectConfig = field(default_factory=CollectConfig)

    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    speed: SpeedConfig = field(default_factory=SpeedConfig)

    distill: DistillConfig = field(default_factory=DistillConfig)

    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    report: ReportConfig = field(default_factory=ReportConfig)

    fleet: FleetConfig = MISSING

    tracking: TrackingConfig = MISSING

    impl: ImplConfig = MISSING


def register_schema() -> None:
    """Register the schemas and the primary configurations of the stages with Hydra.

    A choice without a YAML file of its name, such as that of a plugin, consists of its class's defaults.
    """
    for plugin in entry_points(group=PLUGINS):
        plugin.load()
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for stage in STAGES:
        if not (CONF / f"{stage}.yaml").exists():
            store.store(name=stage, node=_PRIMARY)
    for registry in REGISTRIES:
        for name, kind in registry.items():
            store.store(group=registry.group, name=f"{name}_schema", node=kind)
            if not (CONF / registry.group / f"{name}.yaml").exists():
                store.store(group=registry.group, name=name, node=kind)


def every_setting() -> Iterator[Setting]:
    """Yield every setting, those of each choice of a group under ``<group>(<choice>)``."""
    groups = {registry.group for registry in REGISTRIES}
    for item in describe(Config):
        if item.key.partition(".")[0] not in groups:
            yield item
    for registry in REGISTRIES:
        for name, kind in registry.items():
            yield from describe(kind, f"{registry.group}({name})")


def typed(composed: DictConfig) -> Config:
    """Returns the composed configuration as dataclasses, every reference resolved.

    Raises:
        ConfigurationError: A required value is missing, or a value is not of its setting's type or out of its range.
    """
    for key in sorted(OmegaConf.missing_keys(composed)):
        raise ConfigurationError(key, "", f"set, as it has no default: {key}=…")
    config = OmegaConf.to_object(composed)
    if not isinstance(config, Config):
        raise TypeError(f"The configuration was composed without its schema, as {type(config).__name__}.")
    check_settings(config, "", rules=False)
    return config


def plain(config: Config) -> dict[str, Any]:
    """Returns the configuration as plain dictionaries, with every password in it struck out."""
    hidden: dict[str, Any] = _redacted(asdict(config))
    return hidden


def chosen(config: Config, keys: Sequence[str]) -> dict[str, Any]:
    """Returns the part of the configuration under ``keys`` (dotted), as plain values without passwords."""
    # A loss is recorded without the terms that were added since and have no weight: folders stay those of their settings.
    whole = {**_redacted(identity(config)), "loss": config.loss.identity()}
    part: dict[str, Any] = {}
    for key in keys:
        value: Any = whole
        for name in key.split("."):
            value = value[name]
        part[key] = value
    return part


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redact_patterns(value) if isinstance(value, str) else value

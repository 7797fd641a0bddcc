"""Compose configurations whose ``hydra`` node is the one that Bort ships: Hydra imports and calls names that stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra._internal.hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bort.errors import ConfigurationError

#: Settings of Hydra that a command line may set.
_SETTABLE = re.compile(
    r"hydra/(launcher|hydra_logging|job_logging)"
    r"|hydra\.(mode|verbose|output_subdir|run\.dir|sweep\.(dir|subdir)|job\..+)"
    r"|hydra\.(sweeper\.(params\..+|max_batch_size)|launcher\.[\w.-]+|(hydra|job)_logging\.root\.level)"
)
#: Those of them whose values Hydra instantiates or configures logging from.
_INSTANTIATED = re.compile(r"hydra\.(sweeper|launcher|hydra_logging|job_logging)\.")
#: Texts that a configuration of a user's own may set, too.
_FREE = ("run.dir", "sweep.dir", "sweep.subdir")
#: Nodes that Hydra fills in itself, or that are checked separately.
_FILLED = ("mode", "overrides", "runtime", "job.override_dirname", "sweeper.params")
_OFFERED = "a setting that names no class and no function, of those of Hydra that Bort offers"
_SHIPPED = "set on the command line or left as Bort ships it, as files may name code there"
_SWEPT = "a number or text without references that sweeps a setting of Bort"


@contextmanager
def guarded_composition() -> Iterator[None]:
    """Let Hydra compose with `GuardedLoader`."""
    module = vars(hydra_internal)
    module["ConfigLoaderImpl"] = GuardedLoader
    try:
        yield
    finally:
        module["ConfigLoaderImpl"] = ConfigLoaderImpl


class GuardedLoader(ConfigLoaderImpl):
    """Loader that refuses a ``hydra`` node other than the one of Bort's own files and the command line.

    Every configuration of a run, and of each job of a sweep in whatever process, is composed here before Hydra instantiates
    callbacks, sweepers and launchers from it, configures logging or sets environment variables.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        own = ConfigSearchPathImpl()
        for element in config_search_path.get_path():
            if element.provider != "command-line":
                own.append(element.provider, element.path)
        self._own = ConfigLoaderImpl(own)
        self._shipped: dict[tuple[str | None, ...], dict[str, Any]] = {}

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose a configuration.

        Raises:
            ConfigurationError: A setting of Hydra is not Bort's.
        """
        own = [override for override in OverridesParser.create().parse_overrides(overrides) if override.is_hydra_override()]
        for override in own:
            _require_settable(override)
        composed = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        _require_sweep(composed.hydra.sweeper)
        _require_equal(_flat(composed), self._expected(config_name, own))
        return composed

    def _expected(self, config_name: str | None, own: Sequence[Override]) -> dict[str, Any]:
        lines = [str(override.input_line) for override in own if override.key_or_group != "hydra.mode"]
        key = (config_name, *lines)
        if key not in self._shipped:
            try:
                composed = self._own.load_configuration(config_name, lines, RunMode.MULTIRUN, validate_sweep_overrides=False)
            except MissingConfigException as error:
                group, _, choice = str(error.missing_cfg_file).rpartition("/")
                raise ConfigurationError(group, choice, _SHIPPED) from error
            self._shipped[key] = _flat(composed)
        return self._shipped[key]


def _require_settable(override: Override) -> None:
    key = override.key_or_group
    value = override.value()
    # Hydra instantiates whatever a reference resolves to.
    named = _INSTANTIATED.match(key) and any(mark in str(value) for mark in ("_target_", "${"))
    if override.package is not None or not _SETTABLE.fullmatch(key) or "_target_" in key or named:
        raise ConfigurationError(key, value, _OFFERED)


def _require_sweep(sweeper: DictConfig) -> None:
    """Require plain overrides of Bort's settings: they are instantiated with the sweeper and become a job's command line."""
    params = OmegaConf.to_container(sweeper, resolve=False).get("params") or {}  # type: ignore[union-attr]
    for key, value in params.items() if isinstance(params, dict) else [("", params)]:
        plain = isinstance(value, (str, int, float)) and "${" not in f"{key}{value}"
        if not plain or OverridesParser.create().parse_override(f"{key}={value}").is_hydra_override():
            raise ConfigurationError(f"hydra.sweeper.params.{key}", value, _SWEPT)


def _require_equal(composed: dict[str, Any], expected: dict[str, Any]) -> None:
    for key in sorted({*composed, *expected}):
        value = composed.get(key)
        if (key in _FREE and isinstance(value, str)) or any(f"{key}.".startswith(f"{node}.") for node in _FILLED):
            continue
        if key not in composed or key not in expected or value != expected[key]:
            raise ConfigurationError(f"hydra.{key}", value, _SHIPPED)


def _flat(composed: DictConfig) -> dict[str, Any]:
    """Return the values of the ``hydra`` node by their dotted keys, references unresolved: equal ones name equal code."""
    flat: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            flat[prefix] = node

    walk(OmegaConf.to_container(composed.hydra, resolve=False), "")
    return flat

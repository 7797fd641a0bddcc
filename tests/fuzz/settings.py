"""The readers of what a user says: overrides on the command line, and values of settings as a YAML file has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bort.errors import BortError, ConfigurationError
from tests.fuzz.engine import Reader

_COMMANDS = (
    "task=custom task.train=reviews.csv task.text=a,b task.label=label",
    "experiment=demo seed=1,2,3 -m",
    "student=4-8-1024-768",
    "teacher=./model corpus=~/text",
    "finetuning.seeds=[0,1,2] finetuning.search={learning_rate:[1e-4,1e-5]}",
    "task.delimiter=;",
    "+task.filter.source=here ~tracking hydra/launcher=joblib",
    "name='a \"b\" c' model=runs/a=1/model",
    "task.text=#1 String,#2 String",
    "storage.url=postgresql://user:pass@host:5432/db",
    "search.max_parameters=6e7 impl.threads=null seed=range(1,4)",
)
#: A few lines of each group of settings, as a file of the user's own would have them.
GROUPS: dict[str, tuple[str, ...]] = {
    "task": (
        "name: mine\ntext: [a, b]\nlabels: {'0': no, '1': yes}\n",
        "kind: choice\noptions: a,b\nmargin: 1.5\n",
        "windows: 2\ntruncate: first\n",
    ),
    "finetuning": (
        "learning_rate: 1e-4\nseeds: [0, 1]\n",
        "trials: 2\nsearch: {learning_rate: [1e-4], dropout: {low: 0.0, high: 0.3}}\n",
    ),
    "corpus": ("path: ./text\nblock_length: 128\n", "sources: [{name: a, path: b}]\ncleaning: {language: en}\n"),
    "masking": ("share: 0.15\nwhole_words: true\n",),
    "targets": ("kind: logits\nform: topk\ntop_k: 8\n",),
    "search": ("max_parameters: 60000000\nmax_latency: null\n",),
    "budget": ("steps: 100\nseconds: null\n",),
    "tracking": ("uri: http://127.0.0.1:5000\nexperiment: bort\n",),
    "impl": ("device: cpu\nthreads: 2\nprecision: bf16\n",),
    "agora": ("variant: paper\niterations: 3\n",),
    "export": ("onnx: true\nint8: false\n",),
    "benchmark": ("lengths: [8, 128]\nbatches: [1]\n",),
}


#: Longer lines take the parser longer, and are no other lines.
_LONGEST = 600


def _answered(read: Callable[[str, bytes], object]) -> Callable[[str, bytes, Path], object]:
    """Returns a reader that refuses as the entry points do: with what they tell of an error that they expect."""

    def answered(variant: str, data: bytes, folder: Path) -> object:
        from pipelines.app.main import _expected
        from pipelines.app.messages import sentence

        try:
            return read(variant, data)
        except Exception as error:
            if _expected(error):
                raise BortError(sentence(error)) from error
            raise

    return answered


@cache
def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _read_overrides(variant: str, data: bytes) -> object:
    from pipelines.app.overrides import expand, slug

    # The operating system gives no zero bytes, and bytes that are no text as lone surrogates.
    words = [word for word in data.replace(b"\0", b"").decode("utf-8", errors="surrogateescape").split(" ") if word]
    expanded = expand(words)
    slug(word for word in expanded if not word.startswith("-"))
    return _parser().parse_overrides([word for word in expanded if not word.startswith("-")])


@cache
def _schema() -> Any:
    from dataclasses import fields
    from typing import get_type_hints

    from omegaconf import OmegaConf

    from pipelines.engine.schema import Config

    hints = get_type_hints(Config)
    return {item.name: OmegaConf.structured(hints[item.name]) for item in fields(Config) if item.name in GROUPS}


def _read_settings(variant: str, data: bytes) -> object:
    import copy
    import io

    from omegaconf import DictConfig, OmegaConf

    from bort.settings import check_settings

    given = OmegaConf.load(io.StringIO(data.decode("utf-8", errors="replace")))
    if not isinstance(given, DictConfig):
        raise ConfigurationError(variant, given, "names with values are needed")
    made: Any = OmegaConf.to_object(OmegaConf.merge(copy.deepcopy(_schema()[variant]), given))
    check_settings(made, variant)
    return made


def overrides() -> Reader:
    """Returns the reader of the command line."""
    commands = {"command": [command.encode() for command in _COMMANDS]}
    return Reader("overrides", "overrides on the command line", commands, _answered(_read_overrides), _LONGEST)


def settings() -> Reader:
    """Returns the reader of settings."""
    groups = {group: [text.encode() for text in texts] for group, texts in GROUPS.items()}
    return Reader("settings", "settings as YAML files have them", groups, _answered(_read_settings), _LONGEST)

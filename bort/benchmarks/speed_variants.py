"""What runs in a process of the speed comparison: one variant of the loop, a round at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bort.architecture import BORT, POSITIONS, ROBERTA_LARGE, Architecture
from bort.corpus.config import MaskingConfig
from bort.corpus.dataset import Blocks, Corpus
from bort.corpus.masking import mask_blocks
from bort.corpus.order import BlockOrder
from bort.corpus.tokenizer import special_ids
from bort.distillation.config import BudgetConfig, SpeedConfig, StudentConfig, TrainConfig
from bort.distillation.distill import distill
from bort.distillation.loop import make_optimizer
from bort.distillation.losses import masked_lm_cross_entropy, soft_cross_entropy
from bort.distillation.setup import DistillationSetup
from bort.distillation.student import build_student
from bort.distillation.targets import OnlineTargets
from bort.distillation.terms import LossConfig, Sizes
from bort.distillation.utilisation import PeakMemory, flops_per_token, peak_flops
from bort.observer import Quiet
from bort.randomness import seeded_generator
from bort.runtime import carried_out, resolve_device
from bort.runtime_config import ImplConfig
from bort.teacher.build import build_targets
from bort.teacher.config import TargetConfig, TeacherConfig
from bort.teacher.load import load_teacher
from bort.teacher.model import Teacher
from bort.teacher.targets import Targets

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bort.teacher.config import TeacherConfig


#: The paper's mix: both losses of a usual loop.
LOSS = LossConfig(masked_lm=0.1, soft_targets=0.5, temperature=2.0)

#: A compiled encoder is worth it where a product of narrow numbers is this much faster than one of wide ones.
_NARROW_PAYS = 1.2


def serve(connection: Connection, name: str, config: SpeedConfig, teacher: TeacherConfig, impl: ImplConfig, folder: str) -> None:
    """Answer requests for as long as the other end is there.

    An empty answer says that all is ready. ``("run", n)`` then makes n steps and returns their times and losses, ``("facts", 0)``
    what is to be known of the variant.
    """
    idle = PeakMemory("cpu").process()
    try:
        with carried_out(impl) as device:
            world = _World(config, teacher, device)
            if name == "cache":
                connection.send({})
                connection.recv()
                connection.send(world.cached(Path(folder)))
                connection.recv()
            elif name == "usual":
                _usual(connection, world, impl, idle)
            else:
                _engine(connection, world, name, impl, Path(folder), idle)
    except EOFError:
        return
    except Exception as error:
        # Said to the process that asked, which ends the comparison with it.
        connection.send({"error": f"The benchmark's variant {name} failed: {error}"})


class _World:
    """What all variants share: teacher, blocks of random tokens, and settings."""

    def __init__(self, config: SpeedConfig, settings: TeacherConfig, device: str) -> None:
        self.config, self.device = config, device
        self.teacher = (
            random_teacher(Architecture.parse(config.teacher), config) if config.teacher else _with_head(settings, config)
        )
        self.student = scaled_bort(self.teacher.architecture) if config.student == "scaled" else Architecture.parse(config.student)
        self.masking = MaskingConfig(seed=config.seed)
        steps = config.warmup + config.rounds * config.steps
        special = special_ids(self.teacher.tokenizer)
        generator = seeded_generator(config.seed)
        shape = (steps * config.batch_size, config.block_length)
        tokens = generator.integers(max(special.values()) + 1, self.teacher.vocab_size, size=shape, dtype=np.int64)
        record = {
            "digest": f"random-{config.seed}",
            "block_length": config.block_length,
            "vocab_size": self.teacher.vocab_size,
            "special": special,
            "tokenizer": self.teacher.tokenizer_digest,
        }
        self.corpus = Corpus(Path("random"), record, Blocks(tokens), Blocks(tokens[:0]))
        self.train = TrainConfig(batch_size=config.batch_size, schedule="constant", warmup_steps=config.warmup, log_every=1)
        self.targets = TargetConfig(kind="logits")

    def cached(self, folder: Path) -> dict[str, Any]:
        """Run the teacher once over the blocks and returns what that took."""
        self.teacher.to(self.device)
        record = build_targets(self.teacher, self.corpus, self.masking, self.targets, folder)
        return {key: record[key] for key in ("seconds", "processor_seconds", "tokens", "bytes")}

    def facts(self, memory: PeakMemory, idle: int, online: bool, impl: ImplConfig) -> dict[str, Any]:
        """Return what is to be known of a variant that has run."""
        length, teacher = self.config.block_length, self.teacher
        sizes = Sizes(self.student, teacher.architecture, teacher.vocab_size, length, self.masking.positions(length))
        peak, source = peak_flops(self.device, impl.precision)
        parameters = self.student.parameters(teacher.vocab_size, teacher.positions, token_types=max(1, teacher.token_types))
        return {
            "peak_memory_bytes": memory.process(),
            "idle_memory_bytes": idle,
            "peak_device_memory_bytes": memory.on_device(),
            "flops_per_token": flops_per_token(sizes, LOSS, online=online),
            "peak_flops": peak,
            "peak_flops_source": source,
            "implementation": f"{impl.precision}{', compiled' if impl.compile else ''}",
            "student": str(self.student),
            "student_parameters": parameters,
            "teacher": str(teacher.architecture),
            "teacher_parameters": teacher.parameters,
            "vocab_size": teacher.vocab_size,
            "device": torch.cuda.get_device_name() if self.device == "cuda" else self.device,
        }


def _usual(connection: Connection, world: _World, impl: ImplConfig, idle: int) -> None:
    """The usual loop: a shuffled loader, a teacher at every step, the vocabulary at every position of both models."""
    memory, watch = PeakMemory(world.device), Stopwatch()
    student = build_student(world.student, world.teacher, StudentConfig(), seed=world.config.seed).to(world.device)
    teacher = world.teacher.to(world.device)
    optimizer = make_optimizer(student, world.train)
    blocks = world.corpus.train
    order = BlockOrder(len(blocks), world.config.batch_size, world.config.seed)
    shuffled = [int(index) for step in range(len(blocks) // world.config.batch_size) for index in order.batch(step)[1]]

    def collate(items: list[int]) -> tuple[Tensor, Tensor]:
        indices = np.array(items, dtype=np.int64)
        made = mask_blocks(
            blocks[indices], indices, 0, world.masking, world.corpus.special, world.corpus.vocab_size, world.corpus.words
        )
        labels = np.full_like(made.input_ids, -100)
        np.put_along_axis(labels, made.positions, made.labels, axis=1)
        return torch.from_numpy(made.input_ids), torch.from_numpy(labels)

    loader = iter(DataLoader(shuffled, batch_size=world.config.batch_size, collate_fn=collate))  # type: ignore[arg-type]
    narrow: Callable[[], AbstractContextManager[Any]] = (
        (lambda: torch.autocast(world.device, torch.bfloat16)) if impl.precision == "bf16" else nullcontext
    )
    done, waited, spent = 0, 0.0, 0.0
    connection.send({})
    while True:
        what, steps = connection.recv()
        if what == "facts":
            connection.send({**world.facts(memory, idle, True, impl), "data_wait": waited / max(spent, 1e-9)})
            continue
        watch.reset()
        losses = []
        for _ in range(steps):
            started = time.perf_counter()
            ids, labels = (part.to(world.device) for part in next(loader))
            waited += time.perf_counter() - started
            with narrow():
                started = time.perf_counter()
                with torch.no_grad():
                    theirs = teacher.logits(teacher.transform(teacher.encode(ids)))
                    _settle(world.device)
                watch.teacher += time.perf_counter() - started
                mine = student.vocabulary(student.encode(ids).hidden)
                chosen = labels != -100
                mine, theirs = mine[chosen], theirs[chosen]
                loss = LOSS.masked_lm * masked_lm_cross_entropy(mine, labels[chosen])
                loss = loss + LOSS.soft_targets * soft_cross_entropy(mine, theirs, LOSS.temperature)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), world.train.clip)
            for group in optimizer.param_groups:
                group["lr"] = world.train.rate(done, 1)
            optimizer.step()
            losses.append(float(loss.detach()))
            done += 1
        answer = watch.read(steps)
        spent += answer["milliseconds"] * steps / 1000.0
        connection.send({**answer, "losses": losses})


def _engine(connection: Connection, world: _World, name: str, impl: ImplConfig, folder: Path, idle: int) -> None:
    """Run this package's own loop, with an online teacher or with cached targets."""
    online = name == "masked"
    if name == "compiled":
        impl = _at_its_best(impl)
    targets: Targets | OnlineTargets
    turns = _Turns(connection, PeakMemory(world.device))
    if online:
        targets = OnlineTargets(world.teacher, world.corpus, world.masking, world.targets)
        turns.watch_teacher(world.teacher, world.device)
    else:
        targets = Targets.open(folder, {})
    connection.send({})
    turns.wait()
    setup = DistillationSetup(
        world.teacher, world.corpus, targets, world.masking, LOSS, world.train, StudentConfig(), world.config.seed
    )
    budget = BudgetConfig(steps=len(world.corpus.train) // world.config.batch_size, checkpoint_every=1 << 30)
    result = distill(world.student, setup, budget, folder / name, impl=impl, observer=turns)
    # The last turn ends with the run; what is asked then is what there is to know.
    facts = world.facts(turns.memory, idle, online, impl)
    connection.send({**facts, "peak_memory_bytes": turns.peak, "data_wait": result["data_wait"]})
    connection.recv()


class _Turns(Quiet):
    """Lets a training make as many steps as it was asked for, and then wait for its next turn."""

    def __init__(self, connection: Connection, memory: PeakMemory) -> None:
        self.connection, self.memory, self.watch = connection, memory, Stopwatch()
        self.losses: list[float] = []
        self.steps = self.peak = 0

    def wait(self) -> None:
        """Wait for the next turn; other requests end the waiting, for they come after the last."""
        _, self.steps = self.connection.recv()
        # What the training does after its last step, such as saving, is no part of it.
        self.peak = self.memory.process()
        self.losses = []
        self.watch.reset()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Notes the loss of a step."""
        if "loss" in values:
            self.losses.append(values["loss"])

    def progress(self, label: str, done: float, total: float, note: str = "") -> None:
        """End the turn where its steps are done."""
        if len(self.losses) == self.steps:
            self.connection.send({**self.watch.read(self.steps), "losses": self.losses})
            self.wait()

    def watch_teacher(self, teacher: Any, device: str) -> None:
        """Has the time of the teacher's own passes counted apart."""
        for name in ("targets_of", "logits"):
            setattr(teacher, name, self._timed(getattr(teacher, name), device))

    def _timed(self, call: Callable[..., Any], device: str) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            made = call(*arguments)
            _settle(device)
            self.watch.teacher += time.perf_counter() - started
            return made

        return timed


def _at_its_best(impl: ImplConfig) -> ImplConfig:
    """Return what ``compiled`` adds on this machine: a compiler, and bf16 where its products are faster."""
    device = resolve_device(impl)
    narrow = device == "cuda"
    if device == "cpu":
        wide, low = peak_flops("cpu", "32")[0], peak_flops("cpu", "bf16")[0]
        narrow = wide is not None and low is not None and low > _NARROW_PAYS * wide
    return replace(impl, compile=True, precision="bf16" if narrow else impl.precision)


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _with_head(settings: TeacherConfig, config: SpeedConfig) -> Teacher:
    """Load the teacher; a missing masked-LM head gets random weights, whose products take as long as any."""
    teacher = load_teacher(settings)
    if teacher.has_head:
        return teacher
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = AutoModelForMaskedLM.from_config(teacher.config)
    model.base_model.load_state_dict(teacher.encoder.state_dict())
    return Teacher(model.base_model, teacher.tokenizer, model, settings.path)


def random_teacher(architecture: Architecture, config: SpeedConfig) -> Teacher:
    """Return a BERT of random weights with a masked-LM head and a tokenizer of as many words: for speed, not for sense."""
    from tokenizers import Tokenizer, models
    from transformers import BertForMaskedLM, PreTrainedTokenizerFast

    size = config.vocabulary
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    words = [*special.values(), *(f"w{number}" for number in range(size - len(special)))]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    settings = architecture.config(
        "bert", vocab_size=size, positions=max(POSITIONS, config.block_length), token_types=1, dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = BertForMaskedLM(settings)
    return Teacher(model.base_model, tokenizer, model, f"{architecture}, random weights")


def scaled_bort(teacher: Architecture) -> Architecture:
    """Return Bort's released shape ⟨4, 8, 1024, 768⟩ in the proportions that it has to RoBERTa-large, its teacher."""
    depth = max(1, round(teacher.depth * BORT.depth / ROBERTA_LARGE.depth))
    hidden = teacher.hidden * BORT.hidden // ROBERTA_LARGE.hidden
    intermediate = max(1, teacher.intermediate * BORT.intermediate // ROBERTA_LARGE.intermediate)
    heads = max(1, teacher.heads * BORT.heads // ROBERTA_LARGE.heads)
    while hidden % heads:
        heads -= 1
    return Architecture(depth, heads, hidden, intermediate)


class Stopwatch:
    """Times the steps of a round, wall and processor, and the teacher's part of them.

    Attributes:
        teacher: Seconds of the teacher's part since the last reset; added to by whoever runs the teacher.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a round."""
        self._wall, self._processor, self.teacher = time.perf_counter(), time.process_time(), 0.0

    def read(self, steps: int) -> dict[str, float]:
        """Return the means over the round's steps, in milliseconds."""
        scale = 1000.0 / max(1, steps)
        return {
            "milliseconds": (time.perf_counter() - self._wall) * scale,
            "processor_milliseconds": (time.process_time() - self._processor) * scale,
            "teacher_milliseconds": self.teacher * scale,
        }

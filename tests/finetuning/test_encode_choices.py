from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bort.errors import BortError
from bort.finetuning.encode import Arrangement, encode
from bort.finetuning.module import layer_rates
from bort.finetuning.objective import TaskObjective, TeacherTerm, choice_loss, soft_loss
from bort.tasks.split import fewer_options
from bort.tasks.task import Example, Task


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=5), st.sampled_from(["mean", "max"]))
def test_windows_are_pooled_and_options_stand_beside_each_other(shape, pooling):
    # shape: for each example, for each option, the number of its windows.
    owners = [(e, o) for e, options in enumerate(shape) for o, windows in enumerate(options) for _ in range(windows)]
    found = torch.randn(len(owners), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    examples, options = (np.array(part) for part in zip(*owners, strict=True))
    gathered = Arrangement(examples, options, True, pooling).gather(found)
    reduce = np.mean if pooling == "mean" else np.max
    width = max(map(len, shape))
    if gathered.shape == found.shape and width == 1:
        assert torch.equal(gathered, found)
        return
    for e in range(len(shape)):
        for o in range(width):
            values = [float(found[row, 0]) for row, owner in enumerate(owners) if owner == (e, o)]
            assert float(gathered[e, o]) == (pytest.approx(reduce(values)) if values else -np.inf)


def test_windows_of_a_classification_pool_each_class():
    found = torch.tensor([[1.0, 4.0], [3.0, 0.0], [5.0, 6.0]])
    arranged = (np.array([0, 0, 1]), np.zeros(3, dtype=np.int64))
    assert Arrangement(*arranged).gather(found).tolist() == [[2.0, 2.0], [5.0, 6.0]]
    assert Arrangement(*arranged, pooling="max").gather(found).tolist() == [[3.0, 4.0], [5.0, 6.0]]


def reference_choice(scores, right, margin):
    total = 0.0
    for row, good in zip(scores, right, strict=True):
        raised = [value if hit else value + margin for value, hit in zip(row, good, strict=True)]
        total -= np.log(sum(np.exp(v) for v, hit in zip(raised, good, strict=True) if hit) / sum(np.exp(v) for v in raised))
    return total / len(scores)


@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_the_choice_loss_agrees_with_its_definition_and_its_gradient(margin):
    scores = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scores[1, 3:] = -torch.inf
    right = torch.zeros(4, 5, dtype=torch.bool)
    right[[0, 0, 1, 2, 3], [0, 2, 1, 4, 3]] = True
    assert float(choice_loss(scores, right, margin)) == pytest.approx(reference_choice(scores.numpy(), right.numpy(), margin))
    finite = scores[[0, 2, 3]].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: choice_loss(x, right[[0, 2, 3]], margin), finite)
    absent = scores.clone().requires_grad_()
    choice_loss(absent, right, margin).backward()
    assert torch.isfinite(absent.grad).all()
    assert (absent.grad[1, 3:] == 0).all()


def test_without_margin_and_with_one_right_option_it_is_cross_entropy():
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    truth = torch.tensor([0, 1, 2, 3, 0, 1])
    right = torch.nn.functional.one_hot(truth, 4).bool()
    assert float(choice_loss(scores, right)) == pytest.approx(float(torch.nn.functional.cross_entropy(scores, truth)), abs=1e-6)


def test_the_soft_loss_agrees_with_its_definition():
    draw = torch.Generator().manual_seed(3)
    scores, teacher = (torch.randn(3, 4, dtype=torch.float64, generator=draw) for _ in range(2))
    p, q = (torch.softmax(x / 2.0, -1).numpy() for x in (teacher, scores))
    assert float(soft_loss(scores, teacher, 2.0)) == pytest.approx(4 * float((p * np.log(p / q)).sum(1).mean()))
    assert float(soft_loss(teacher, teacher, 3.0)) == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: soft_loss(x, teacher, 2.0), scores.clone().requires_grad_())
    scores[0, 2:], teacher[0, 2:] = -torch.inf, -torch.inf
    again = scores.clone().requires_grad_()
    soft_loss(again, teacher, 2.0).backward()
    assert torch.isfinite(again.grad).all()


def test_the_teacher_has_its_share_of_the_loss():
    labels, teacher = np.array([0.0, 1.0]), np.array([[0.0, 3.0], [1.0, 0.0]])
    found = torch.tensor([[0.2, 0.1], [0.5, -0.5]])
    parts = [
        float(TaskObjective("classification", labels, teacher=TeacherTerm(teacher, weight=weight)).loss(found, np.array([0, 1])))
        for weight in (0.0, 1.0, 0.25)
    ]
    assert parts[2] == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], abs=1e-6)
    scaled = TaskObjective("regression", np.array([10.0, 30.0]), teacher=TeacherTerm(np.array([[20.0], [20.0]]), weight=1.0))
    assert scaled.scale == (20.0, 10.0)
    assert float(scaled.loss(torch.tensor([[0.0], [1.0]]), np.array([0, 1]))) == pytest.approx(0.5)


def test_lower_layers_have_lower_rates():
    names = ["bert.embeddings.word.weight", "bert.encoder.layer.0.w", "bert.encoder.layer.3.w", "bert.pooler.w", "classifier.w"]
    assert layer_rates(names, 0.5) == dict(zip(names, [0.5**4, 0.5**3, 1.0, 1.0, 1.0], strict=True))
    assert set(layer_rates(names, 1.0).values()) == {1.0}
    assert layer_rates(["model.layers.1.w", "model.layers.2.w"], 0.5) == {"model.layers.1.w": 0.5, "model.layers.2.w": 1.0}


def test_training_reads_the_right_options_and_a_draw_of_the_others():
    options = tuple(f"option {letter}" for letter in "abcdefgh")
    example = Example("f:1", ("p", "q"), 3, options=options, answers=("option d", "option g"))
    small = fewer_options(example, 4, 0)
    assert len(small.options) == 4
    assert {"option d", "option g"} <= set(small.options)
    assert small.options == tuple(option for option in options if option in small.options)
    assert small.options[int(small.label)] == "option d"
    assert fewer_options(example, 4, 0) == small
    assert len({fewer_options(example, 4, seed).options for seed in range(8)}) > 1
    assert fewer_options(example, 8, 0) is example
    # One wrong option is kept, even where the right ones would fill the place.
    assert len(fewer_options(example, 2, 0).right) == 1


def task(**changes):
    return Task("t", "choice", [], ["accuracy"], [], [], [], **{"truncate": "first", "placeholder": "_", **changes})


def tokens(reader):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(reader)


PASSAGE = " ".join(["kettle", "ladder", "violin", "harbour"] * 6)


@pytest.mark.parametrize("windows", [1, 3])
def test_the_passage_gives_way_and_never_question_or_option(reader, windows):
    tokenizer = tokens(reader)
    example = Example("f:1", (PASSAGE, "what _ stood there"), 1, options=("lantern", "red teapot"))
    data = encode([example], tokenizer, 16, task(windows=windows, overlap=3))
    assert data.lengths.max() <= 16
    seen: dict[int, list[str]] = {0: [], 1: []}
    for row, option in enumerate(data.options):
        text = tokenizer.decode(data.fields["input_ids"][data.starts[row] : data.starts[row + 1]])
        passage, question = text.removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] ")
        assert question == f"what {example.options[option]} stood there".replace(
            "red", "[UNK]" if "red" not in tokenizer.vocab else "red"
        )
        seen[int(option)].append(passage)
    assert [len(windows_) for windows_ in seen.values()] == [windows, windows]
    if windows == 3:
        first, second = seen[0][0].split(), seen[0][1].split()
        assert first[-3:] == second[:3]
    assert PASSAGE.startswith(seen[0][0])


def test_windows_reach_the_end_and_no_further(reader):
    data = encode(
        [Example("f:1", (PASSAGE, "what"), 0)],
        tokens(reader),
        16,
        Task("t", "regression", [], [], [], [], [], truncate="first", windows=9, overlap=2),
    )
    starts = [data.fields["input_ids"][data.starts[row] + 1] for row in range(len(data.lengths))]
    # 24 words in windows of 12: at 0, at 10, and the last twelve.
    assert len(starts) == 3
    assert set(data.lengths) == {16}
    ends = [data.fields["input_ids"][data.starts[row + 1] - 4] for row in range(3)]
    assert ends[-1] == tokens(reader).convert_tokens_to_ids("harbour")


def test_the_second_text_may_be_the_one_that_gives_way(reader):
    tokenizer = tokens(reader)
    data = encode(
        [Example("f:1", ("what stood there", PASSAGE), 0)],
        tokenizer,
        12,
        Task("t", "regression", [], [], [], [], [], truncate="second"),
    )
    text = tokenizer.decode(data.fields["input_ids"])
    assert text == "[CLS] what stood there [SEP] kettle ladder violin harbour kettle ladder [SEP]"


def test_a_question_longer_than_a_sequence_is_refused(reader):
    example = Example("f:7", (PASSAGE, "what stood there " * 5), 0, options=("lantern", "teapot"))
    with pytest.raises(BortError, match=r"f:7: question and option take 19 tokens and a sequence has 16; raise task\.max_length"):
        encode([example], tokens(reader), 16, task())


@pytest.mark.parametrize(("keep", "first"), [("start", ["kettle", "ladder"]), ("end", ["violin", "harbour"])])
def test_the_end_of_a_text_may_be_what_is_read_of_it(reader, keep, first):
    tokenizer = tokens(reader)
    config = Task("t", "regression", [], [], [], [], [], truncate="first", keep=keep)
    data = encode([Example("f:1", (PASSAGE, "what stood there"), 0)], tokenizer, 8, config)
    text = tokenizer.decode(data.fields["input_ids"])
    assert text == f"[CLS] {' '.join(first)} [SEP] what stood there [SEP]"

"""What others published: shapes, sizes and scores of well-known models, each with its source and how far it can be trusted.

``trust`` says how a figure came here: ``read`` in the named document, ``counted`` from the shape, or ``recalled`` from the
literature without the document at hand. Nothing of low confidence is listed: RACE results of Bort, for one, were not recovered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bort.architecture import BORT, BORT_PUBLISHED, BORT_SECOND, POSITIONS, ROBERTA_LARGE, VOCABULARY, Architecture

_BERT_VOCABULARY = 30_522
_BORT_README = "README of github.com/alexa/bort at 05adebf"
_BERT_README = "README of github.com/google-research/bert"
_MINILM_README = "README of github.com/microsoft/unilm, minilm"
_DISTILLATION_README = "README of the distillation example of github.com/huggingface/transformers"
_TINYBERT_README = "README of github.com/huawei-noah/Pretrained-Language-Model, TinyBERT"


@dataclass(frozen=True)
class PublishedModel:
    """A model of the literature.

    Args:
        name: Its name on the command line.
        title: Its name in print.
        architecture: ⟨D, A, H, I⟩.
        millions: The parameter count its authors or others print, in millions; None where none was found.
        source: Where that was found.
        trust: ``read``, ``counted`` or ``recalled``.
        vocab_size: Rows of the word embedding.
        positions: Rows of the position embedding, unusable ones included.
        token_types: Rows of the token-type embedding, 0 for none.
        pooler: Whether the model has BERT's pooler.
        head: Whether a masked-LM head is counted with it.
        family: The transformers family it is built as: ``bert``, ``roberta``, ``distilbert`` or ``mobilebert``.
        counts: Parameters of embedding, norm, encoder, pooler and head, where the plain layer does not describe them.
        products: Multiply-adds for each token, and for each pair of tokens, where the plain layer does not describe them.
    """

    name: str
    title: str
    architecture: Architecture
    millions: float | None
    source: str
    trust: str
    vocab_size: int = _BERT_VOCABULARY
    positions: int = 512
    token_types: int = 2
    pooler: bool = True
    head: bool = True
    family: str = "bert"
    counts: Mapping[str, int] | None = None
    products: tuple[int, int] | None = None

    def operations(self, sequence_length: int) -> int:
        """Returns the multiply-adds of one forward pass over one sequence."""
        if self.products is None:
            return self.architecture.operations(sequence_length)
        each, pair = self.products
        return each * sequence_length + pair * sequence_length**2


def _roberta(name: str, title: str, architecture: Architecture, millions: float, source: str, trust: str) -> PublishedModel:
    return PublishedModel(name, title, architecture, millions, source, trust, VOCABULARY, 514, 1, pooler=False, family="roberta")


def _bort(name: str, title: str, architecture: Architecture, millions: float | None, source: str, trust: str) -> PublishedModel:
    return PublishedModel(name, title, architecture, millions, source, trust, VOCABULARY, POSITIONS, 0)


#: Parameters of transformers' MobileBERT for masked LM, whose head widens by a matrix of its own; it has no pooler.
MOBILEBERT_COUNTS = {"embedding": 4_367_104, "norm": 1_024, "encoder": 20_213_760, "pooler": 0, "head": 12_014_650}

#: Shapes that the plain BERT layer describes, so that counts and random weights of them are exact, and MobileBERT, whose counts are
#: those of its class: embeddings of 128 widened to 512, and in each of 24 layers bottlenecks of 128 and four feed-forward networks.
#: ELECTRA-small's narrow embedding is not of that kind and is left out.
MODELS = (
    _bort("bort", "Bort, released checkpoint", BORT, None, "bort/bort.py of github.com/alexa/bort", "read"),
    _bort("bort-published", "Bort, the shape of the published numbers", BORT_PUBLISHED, 56, _BORT_README, "read"),
    _bort("bort-second", "Bort, second released shape", BORT_SECOND, None, "bort/bort.py of github.com/alexa/bort", "read"),
    PublishedModel("bert-base", "BERT-base", Architecture(12, 12, 768, 3072), 109, _MINILM_README, "read"),
    PublishedModel("bert-large", "BERT-large", Architecture(24, 16, 1024, 4096), 340, _BORT_README, "read"),
    _roberta("roberta-base", "RoBERTa-base", Architecture(12, 12, 768, 3072), 125, "arXiv:1907.11692", "recalled"),
    _roberta("roberta-large", "RoBERTa-large", ROBERTA_LARGE, 355, "arXiv:1907.11692", "recalled"),
    PublishedModel(
        "distilbert",
        "DistilBERT",
        Architecture(6, 12, 768, 3072),
        66,
        _DISTILLATION_README,
        "read",
        token_types=0,
        pooler=False,
        family="distilbert",
    ),
    _roberta("distilroberta", "DistilRoBERTa", Architecture(6, 12, 768, 3072), 82, _DISTILLATION_README, "read"),
    PublishedModel("tinybert-4", "TinyBERT-4", Architecture(4, 12, 312, 1200), 14.5, "arXiv:1909.10351", "recalled"),
    PublishedModel("tinybert-6", "TinyBERT-6", Architecture(6, 12, 768, 3072), 67, _TINYBERT_README, "read"),
    PublishedModel("minilm-l6-h384", "MiniLM-L6-H384", Architecture(6, 12, 384, 1536), 22, _MINILM_README, "read"),
    PublishedModel("minilm-l12-h384", "MiniLM-L12-H384", Architecture(12, 12, 384, 1536), 33, _MINILM_README, "read"),
    PublishedModel("minilm-l6-h768", "MiniLM-L6-H768", Architecture(6, 12, 768, 3072), 66, _MINILM_README, "read"),
    PublishedModel(
        "mobilebert",
        "MobileBERT",
        Architecture(24, 4, 512, 512),
        25.3,
        "arXiv:2004.02984",
        "recalled",
        family="mobilebert",
        counts=MOBILEBERT_COUNTS,
        products=(24 * 835_584 + 3 * 128 * 512, 24 * 2 * 128),
    ),
    PublishedModel("bert-tiny", "BERT-Tiny", Architecture(2, 2, 128, 512), 4.4, _BERT_README, "recalled"),
    PublishedModel("bert-mini", "BERT-Mini", Architecture(4, 4, 256, 1024), 11.3, _BERT_README, "recalled"),
    PublishedModel("bert-small", "BERT-Small", Architecture(4, 8, 512, 2048), 29.1, _BERT_README, "recalled"),
    PublishedModel("bert-medium", "BERT-Medium", Architecture(8, 8, 512, 2048), 41.7, _BERT_README, "recalled"),
)


def find(name: str) -> PublishedModel | None:
    """Returns the published model of this name, or None; case and the suffixes -uncased and -cased do not matter."""
    wanted = name.lower().removesuffix("-uncased").removesuffix("-cased").removesuffix("-base" if "distil" in name.lower() else "")
    wanted = wanted.removeprefix("google/").removeprefix("amazon/").removeprefix("facebookai/").removeprefix("microsoft/")
    return next((model for model in MODELS if model.name == wanted), None)


@dataclass(frozen=True)
class PublishedSize:
    """A row of the paper's size table, as printed.

    Args:
        name: The model.
        parameters: Printed total, in millions.
        embedding: Printed size of the embeddings, in millions.
        encoder_proportion: Printed share of everything else, in percent.
        source: Where it is printed.
    """

    name: str
    parameters: float
    embedding: float
    encoder_proportion: float
    source: str


#: The size table of the released README. The README prints hidden 1024 and intermediate 768 for Bort since 2020-10-27 and the
#: reverse before; only the reverse, ⟨4, 8, 768, 1024⟩, has these sizes.
PAPER_SIZES = (
    PublishedSize("Bort", 56, 39, 30.3, _BORT_README),
    PublishedSize("BERT-large", 340, 31.8, 90.6, _BORT_README),
)
#: What the paper divides by: BERT-large's total and embedding, as printed.
BERT_LARGE_PARAMETERS, BERT_LARGE_EMBEDDING = 340e6, 31.8e6


@dataclass(frozen=True)
class PublishedScores:
    """One model's row of a benchmark's test table, in points.

    Args:
        model: The model.
        score: The benchmark's own average.
        tasks: Each task's figures, in the order of the benchmark's metrics for it.
        source: Where it is printed.
        trust: ``read`` or ``recalled``.
    """

    model: str
    score: float
    tasks: dict[str, tuple[float, ...]]
    source: str
    trust: str = "read"


def _parse(tasks: Mapping[str, tuple[str, ...]], figures: str) -> dict[str, tuple[float, ...]]:
    return dict(zip(tasks, (tuple(float(part) for part in figure.split("/")) for figure in figures.split()), strict=True))


def _glue(model: str, source: str, trust: str, score: float, figures: str) -> PublishedScores:
    return PublishedScores(model, score, _parse(GLUE_TASKS, figures), source, trust)


def _super_glue(model: str, source: str, trust: str, score: float, figures: str) -> PublishedScores:
    return PublishedScores(model, score, _parse(SUPER_GLUE_TASKS, figures), source, trust)


#: GLUE's tasks with the metrics of its leaderboard, in its order.
GLUE_TASKS = {
    "cola": ("mcc",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "qqp": ("f1", "accuracy"),
    "mnli_matched": ("accuracy",),
    "mnli_mismatched": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
    "ax": ("mcc",),
}
GLUE = (
    _glue("Bort", _BORT_README, "read", 83.6, "63.9 96.2 94.1/92.3 89.2/88.3 66.0/85.9 88.1 87.8 92.3 82.7 71.2 51.9"),
    _glue("BERT-large", _BORT_README, "read", 80.5, "60.5 94.9 89.3/85.4 87.6/86.5 72.1/89.3 86.7 85.9 92.7 70.1 65.1 39.6"),
    _glue(
        "RoBERTa-large",
        "GLUE leaderboard",
        "recalled",
        88.1,
        "67.8 96.7 92.3/89.8 92.2/91.9 74.3/90.2 90.8 90.2 95.4 88.2 89.0 48.7",
    ),
    _glue("BERT-Medium", _BERT_README, "read", 73.5, "38.0 89.6 86.6/81.6 80.4/78.4 69.6/87.9 80.0 79.1 87.7 62.2 62.3 30.5"),
    _glue("BERT-Small", _BERT_README, "read", 71.2, "27.8 89.7 83.4/76.2 78.8/77.0 68.1/87.0 77.6 77.0 86.4 61.8 62.3 28.6"),
    _glue("BERT-Mini", _BERT_README, "read", 65.8, "0.0 85.9 81.1/71.8 75.4/73.3 66.4/86.2 74.8 74.3 84.1 57.9 62.3 26.1"),
    _glue("BERT-Tiny", _BERT_README, "read", 64.2, "0.0 83.2 81.1/71.1 74.3/73.6 62.2/83.4 70.2 70.3 81.5 57.2 62.3 21.0"),
)

#: SuperGLUE's tasks with the metrics of its leaderboard, in its order.
SUPER_GLUE_TASKS = {
    "boolq": ("accuracy",),
    "cb": ("f1", "accuracy"),
    "copa": ("accuracy",),
    "multirc": ("f1a", "exact_match"),
    "record": ("f1", "exact_match"),
    "rte": ("accuracy",),
    "wic": ("accuracy",),
    "wsc": ("accuracy",),
    "ax_b": ("mcc",),
    "ax_g": ("parity", "accuracy"),
}
SUPER_GLUE = (
    _super_glue("Bort", _BORT_README, "read", 74.1, "83.7 81.9/86.5 89.6 83.7/54.1 49.8/49.0 81.2 70.1 65.8 48.0 96.1/61.5"),
    _super_glue("BERT-large", _BORT_README, "read", 69.0, "77.4 75.7/83.6 70.6 70.0/24.1 72.0/71.3 71.7 69.6 64.4 23.0 97.8/51.7"),
    _super_glue(
        "BERT++", "SuperGLUE leaderboard", "recalled", 71.5, "79.0 84.7/90.4 73.8 70.0/24.1 72.0/71.3 79.0 69.6 64.4 38.0 99.4/51.4"
    ),
    _super_glue(
        "RoBERTa-large",
        "SuperGLUE leaderboard",
        "recalled",
        84.6,
        "87.1 90.5/95.2 90.6 84.4/52.5 90.6/90.0 88.2 69.9 89.0 57.9 91.0/78.1",
    ),
)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, with what is known to be wrong with it.

    Args:
        name: Short name.
        words: What is said, in a sentence.
        printed: The figure as printed.
        value: The same as a number, where it is one.
        source: Where it is printed.
        trust: ``read`` or ``recalled``.
        note: What to know before comparing with it.
    """

    name: str
    words: str
    printed: str
    value: float | None
    source: str
    trust: str
    note: str = ""


_ABSTRACT = "abstract of arXiv:2010.10499"
_DIGESTS = "two digests of arXiv:2010.10499"
_AUTHOR = "the first author's post of November 2020"
#: Hours of pre-training on the same hardware, as two digests of the paper print them.
GPU_HOURS = {"Bort": 288, "BERT-large": 1_153, "RoBERTa-large": 25_764}
CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "effective size",
            "Without embeddings, Bort has 5.5 % of BERT-large's parameters",
            "5.5 %",
            5.5,
            _ABSTRACT,
            "read",
            "belongs to ⟨4, 8, 768, 1024⟩",
        ),
        Claim(
            "net size",
            "With embeddings, Bort has 16 % of BERT-large's parameters",
            "16 %",
            16,
            _ABSTRACT,
            "read",
            "belongs to ⟨4, 8, 768, 1024⟩",
        ),
        Claim(
            "speed",
            "Bort is 7.9 times faster than BERT-large on a CPU",
            "7.9×",
            7.9,
            _ABSTRACT,
            "read",
            "the sentence names no baseline; the README said BERT-large until 2020-11-09",
        ),
        Claim(
            "speed over BERT-base",
            "Bort is 7.9 times faster than BERT-base on a CPU",
            "7.9×",
            7.9,
            _BORT_README,
            "read",
            "the baseline since 2020-11-09",
        ),
        Claim(
            "speed over BERT-large",
            "Bort is 20 times faster than BERT-large on a CPU",
            "20×",
            20,
            _BORT_README,
            "read",
            "added in November 2020; neither processor, threads, batch nor length are given",
        ),
        Claim(
            "distillation",
            "Distillation reaches a higher masked-LM accuracy than masked-LM training",
            "higher",
            None,
            _DIGESTS,
            "read",
            "the figures of that comparison were not recovered",
        ),
        Claim(
            "distillation speed",
            "Distillation trains faster than masked-LM training",
            "faster",
            None,
            _DIGESTS,
            "read",
            "whether the teacher's own cost is counted is not said",
        ),
        Claim(
            "correspondence",
            "Architectures need not be trained to the end to be ranked by error",
            "not needed",
            None,
            _AUTHOR,
            "read",
        ),
        Claim(
            "stride",
            "The best of every ε-th architecture is an ε-optimal solution",
            "ρ ≤ |1 − ε|",
            None,
            "abstract of arXiv:2010.08512",
            "read",
            "ε is a whole number, and from 2 on the bound allows any loss",
        ),
        Claim(
            "scores",
            "Fine-tuned, the shape that was found beats BERT-large on 20 of 23 tasks",
            "20 of 23",
            20,
            _AUTHOR,
            "read",
            "with Agora, whose generators and labellers were never told",
        ),
        Claim(
            "agora",
            "Agora gains over plain fine-tuning",
            "used for every score",
            None,
            _BORT_README,
            "read",
            "plain fine-tuning of the released checkpoint is said to be near chance",
        ),
        Claim("pre-training", "Pre-training takes 288 GPU-hours", "288 h", 288, _DIGESTS, "read", "on V100, by inference"),
        Claim(
            "pre-training of BERT-large",
            "That is a third of BERT-large's pre-training",
            "33 %",
            33,
            _ABSTRACT,
            "read",
            "the digests print 1,153 hours for BERT-large",
        ),
        Claim(
            "pre-training of RoBERTa-large",
            "That is 1.2 % of RoBERTa-large's pre-training",
            "1.2 %",
            1.2,
            _ABSTRACT,
            "read",
            "the digests print 25,764 hours for RoBERTa-large",
        ),
    )
}

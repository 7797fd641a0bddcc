"""What `bort corpus` costs beside the bare tokenizer, and what a masked block costs. Not a test: run it by hand.

    python tests/corpus/measure_corpus.py TOKENIZER TEXT [--document REGEX] [--repeats 5]

Processor time of this process alone, the two taken in turns; the tokenizer gets the same documents at once, in one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np

from bort.corpus.build import build_corpus
from bort.corpus.config import CleaningConfig, CorpusConfig, MaskingConfig
from bort.corpus.dataset import Corpus
from bort.corpus.masking import mask_blocks
from bort.corpus.sources import Reader
from bort.corpus.tokenizer import bare_tokenizer

#: Blocks of a batch and their length: the demo's, BERT's, and the paper's.
BATCHES = ((16, 64), (32, 128), (32, 512))


def seconds(call: Callable[[], Any]) -> float:
    """Returns the processor seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    """Prints the two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer")
    parser.add_argument("text")
    parser.add_argument("--document")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked.tokenizer)
    config = CorpusConfig(path=asked.text, document=asked.document, block_length=64)
    cleaned = CorpusConfig(
        path=asked.text,
        document=asked.document,
        block_length=64,
        markup=["html"],
        cleaning=CleaningConfig(tables=True, min_words=5, language="en", duplicates=True, near_duplicates=0.8),
    )
    texts = [document.text for document in Reader(config, [None]) if document.text.strip()]
    bare = bare_tokenizer(tokenizer)
    print(f"{len(texts)} documents, {sum(map(len, texts)):,} characters")
    taken: dict[str, list[float]] = {"bare tokenizer": [], "bort corpus": [], "with all cleaning": []}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(asked.repeats):
            folder = Path(name) / str(turn)
            taken["bare tokenizer"].append(seconds(lambda: bare.encode_batch_fast(texts, add_special_tokens=False)))
            taken["bort corpus"].append(seconds(lambda folder=folder: build_corpus(config, tokenizer, folder / "a")))
            taken["with all cleaning"].append(seconds(lambda folder=folder: build_corpus(cleaned, tokenizer, folder / "b")))
        corpus = Corpus.open(Path(name) / "0" / "a")
        for what, values in taken.items():
            ratios = [value / base for value, base in zip(values, taken["bare tokenizer"], strict=True)]
            print(f"{what:18} {statistics.median(values):7.2f} s   {statistics.median(ratios):5.2f} x")
        words, special, size = corpus.words, corpus.special, corpus.vocab_size
    for count, length in BATCHES:
        blocks = np.random.default_rng(0).integers(1000, size, (count, length))
        blocks[:, 0], blocks[:, -1] = special["cls"], special["sep"]
        for masking in (MaskingConfig(), MaskingConfig(whole_words=True)):
            each = [
                seconds(lambda m=masking, e=epoch, b=blocks: mask_blocks(b, np.arange(len(b)), e, m, special, size, words))
                for epoch in range(200)
            ]
            kind = "whole words" if masking.whole_words else "tokens"
            print(f"mask {kind:11} {count:3} x {length:3}: {statistics.median(each) / count * 1e6:5.1f} µs a block")


if __name__ == "__main__":
    main()

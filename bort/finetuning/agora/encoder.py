"""An encoder as Agora uses it: neighbours of words, words that fit into a gap, features of texts."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bort.errors import ConfigurationError
from bort.finetuning.batches import evaluation_batches
from bort.randomness import named_generator
from bort.tasks.task import Example
from bort.teacher.config import TeacherConfig
from bort.teacher.load import load_teacher

_PLAIN = re.compile(r"[^\W\d_]{2,}")
_NEIGHBOURS = 12
#: Words that may be a neighbour: rare ones are no help to a small student, and looking through all takes long.
_FREQUENT = 8_000
_BEGINNINGS = ("Ġ", "▁")
_CANDIDATES = 12
#: Texts whose features are kept: about ten kilobytes each for an encoder of six layers of 384.
_KEPT = 20_000


class Encoder:
    """A frozen encoder and its tokenizer; results are cached for the life of the object.

    Args:
        model_dir: A directory in transformers layout, or a hub id.
        max_length: Tokens of a text that are read.
    """

    def __init__(self, model_dir: str | Path, max_length: int) -> None:
        self.teacher = load_teacher(TeacherConfig(path=str(model_dir)))
        self.tokenizer = self.teacher.tokenizer
        self.max_length = min(max_length, self.teacher.positions)
        self._features: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._near: dict[str, tuple[str, ...]] = {}
        self._words: dict[str, int] | None = None
        self._names: list[str] = []
        self._frequent = torch.empty(0)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the means over the tokens of each text of what the embedding and each of the L layers give: [N, L + 1, H]."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._features))
        for text in texts:
            if text in self._features:
                self._features.move_to_end(text)
        if missing:
            ids = self.tokenizer(missing, truncation=True, max_length=self.max_length)["input_ids"]
            lengths = np.array([len(one) for one in ids], dtype=np.int64)
            for batch in evaluation_batches(lengths):
                width = int(lengths[batch].max())
                inputs = torch.zeros(len(batch), width, dtype=torch.long)
                for row, index in enumerate(batch):
                    inputs[row, : len(ids[index])] = torch.tensor(ids[index])
                mask = (torch.arange(width) < torch.from_numpy(lengths[batch])[:, None]).long()
                with torch.inference_mode():
                    states = self.teacher.encoder(input_ids=inputs, attention_mask=mask, output_hidden_states=True).hidden_states
                    weights = mask.unsqueeze(-1).to(states[0].dtype)
                    means = torch.stack([(hidden * weights).sum(1) / weights.sum(1) for hidden in states], dim=1)
                for row, index in enumerate(batch):
                    self._features[missing[index]] = means[row].numpy()
        found = np.stack([self._features[text] for text in texts])
        while len(self._features) > _KEPT:
            self._features.popitem(last=False)
        return found

    def neighbours(self, word: str) -> tuple[str, ...]:
        """Return the frequent words whose embeddings are nearest to that of ``word`` by cosine; none if it is several tokens."""
        words = self.words()
        key = word if word in words else word.casefold()
        if key not in words:
            return ()
        if key not in self._near:
            likeness = self._frequent @ self.teacher.encoder.get_input_embeddings().weight.detach()[words[key]].float()
            nearest = torch.topk(likeness, min(_NEIGHBOURS + 1, len(likeness))).indices.tolist()
            others = (self._names[index] for index in nearest)
            self._near[key] = tuple(other for other in others if other.casefold() != key.casefold())[:_NEIGHBOURS]
        return self._near[key]

    def words(self) -> dict[str, int]:
        """Return the token of each whole word of letters, the frequent ones first: vocabularies are in that order."""
        if self._words is None:
            found: dict[str, int] = {}
            vocabulary = self.tokenizer.get_vocab()
            # Byte-pair vocabularies mark the beginning of a word, word-piece ones its going on.
            marked = any(token.startswith(_BEGINNINGS) for token in vocabulary)
            for token, index in sorted(vocabulary.items(), key=lambda item: item[1]):
                begins = token.startswith(_BEGINNINGS)
                word = token[1:] if begins else token
                if begins == marked and _PLAIN.fullmatch(word):
                    found.setdefault(word, index)
            self._words, self._names = found, list(found)[:_FREQUENT]
            rows = self.teacher.encoder.get_input_embeddings().weight.detach()[[found[name] for name in self._names]]
            self._frequent = torch.nn.functional.normalize(rows.float(), dim=-1)
        return self._words


class Contextual:
    """A generator that masks a share of the words of one text and fills the gaps by a teacher's masked-LM head.

    Args:
        encoder: With a teacher that has such a head.

    Raises:
        ConfigurationError: It has none.
    """

    name = "contextual"

    def __init__(self, encoder: Encoder) -> None:
        if not encoder.teacher.has_head:
            raise ConfigurationError(
                "agora.generators",
                self.name,
                f"another generator, as {encoder.teacher.path} has no masked-LM head to fill the gaps",
            )
        self._encoder = encoder
        special = set(encoder.tokenizer.all_special_ids)
        usable = set(encoder.words().values()) - special
        self._usable = torch.zeros(encoder.teacher.vocab_size, dtype=torch.bool)
        self._usable[sorted(usable)] = True

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Fill all gaps of one text at once, each from its twelve likeliest words but the one that stood there."""
        random = named_generator(seed, self.name, example.texts, number)
        place = int(random.integers(len(example.texts)))
        tokenizer, teacher = self._encoder.tokenizer, self._encoder.teacher
        ids = tokenizer(example.texts[place], truncation=True, max_length=self._encoder.max_length)["input_ids"]
        inner = [at for at, token in enumerate(ids) if self._usable[token]]
        if not inner:
            return example.texts
        count = max(1, round(float(random.uniform(0.15, 0.4)) * len(inner)))
        gaps = sorted(int(inner[at]) for at in random.permutation(len(inner))[:count])
        tokens = torch.tensor([ids])
        tokens[0, gaps] = tokenizer.mask_token_id
        with torch.inference_mode():
            found = teacher.logits(teacher.transform(teacher.encode(tokens)[0, gaps])).float()
        for row, at in enumerate(gaps):
            scores = found[row].masked_fill(~self._usable, -torch.inf)
            scores[ids[at]] = -torch.inf
            top = scores.topk(_CANDIDATES)
            chances = torch.softmax(top.values.double(), dim=-1).numpy()
            ids[at] = int(top.indices[int(random.choice(_CANDIDATES, p=chances / chances.sum()))])
        text = tokenizer.decode(ids, skip_special_tokens=True).strip()
        return (*example.texts[:place], text, *example.texts[place + 1 :])

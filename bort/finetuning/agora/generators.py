"""Generators: from an example to texts that are like it. All are functions of (seed, example, number)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from bort.errors import ConfigurationError
from bort.finetuning.agora.points import Draft
from bort.finetuning.agora.retrieval import Pool, Retrieve
from bort.randomness import named_generator
from bort.tasks.task import Example, Task

#: From a word to its substitutes, the nearest first; empty if it has no known neighbour.
Neighbours = Callable[[str], Sequence[str]]
#: Shares of the words that an edit touches: EDA's 0.1 leaves near-duplicates, above a half little is left of a sentence.
_LEAST, _MOST = 0.15, 0.5


class Generator(Protocol):
    """Make texts that are like an example."""

    name: str

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Return the texts of one point.

        The same arguments give the same texts, whatever was made before. There are as many texts as the example has, none empty
        unless the example's own is. Where nothing can be changed, the example's own texts come back, and the sieve drops them.

        Args:
            example: What to start from; its label is not looked at.
            number: Distinguishes the points made of one example.
            seed: Another seed gives other points.
        """


class WordEdit:
    """One operation of EDA (Wei and Zou 2019) on a random share of the words of one text.

    Args:
        name: ``substitute`` (by a neighbour), ``insert`` (a neighbour of some word), ``swap`` (two words) or ``delete``.
        neighbours: Takes the place of EDA's thesaurus; not needed for the last two.
    """

    def __init__(self, name: str, neighbours: Neighbours | None = None) -> None:
        self.name, self._neighbours = name, neighbours or (lambda word: ())

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Edit one text of the example."""
        random = named_generator(seed, self.name, example.texts, number)
        place = int(random.integers(len(example.texts)))
        parts = example.texts[place].split()
        if not parts:
            return example.texts
        count = max(1, round(float(random.uniform(_LEAST, _MOST)) * len(parts)))
        if self.name == "substitute":
            # In both texts of a pair alike: otherwise whatever is made of a paraphrase is none any more.
            other = self._substitutes(parts, count, random)
            return tuple(" ".join(other.get(part, part) for part in text.split()) if text else text for text in example.texts)
        edited = getattr(self, f"_{self.name}")(list(parts), count, random)
        return (*example.texts[:place], " ".join(edited), *example.texts[place + 1 :])

    def _substitutes(self, parts: list[str], count: int, random: np.random.Generator) -> dict[str, str]:
        words = list(dict.fromkeys(parts))
        found: dict[str, str] = {}
        for place in random.permutation(len(words)):
            near = self._neighbours(words[place]) if len(found) < count else ()
            if near:
                found[words[place]] = near[int(random.integers(len(near)))]
        return found

    def _insert(self, parts: list[str], count: int, random: np.random.Generator) -> list[str]:
        known = [near for near in map(self._neighbours, parts) if near]
        for _ in range(count if known else 0):
            near = known[int(random.integers(len(known)))]
            parts.insert(int(random.integers(len(parts) + 1)), near[int(random.integers(len(near)))])
        return parts

    def _swap(self, parts: list[str], count: int, random: np.random.Generator) -> list[str]:
        for _ in range(count):
            one, other = random.integers(len(parts), size=2)
            parts[one], parts[other] = parts[other], parts[one]
        return parts

    def _delete(self, parts: list[str], count: int, random: np.random.Generator) -> list[str]:
        gone = set(random.permutation(len(parts))[: min(count, len(parts) - 1)].tolist())
        return [part for place, part in enumerate(parts) if place not in gone]


class Spans:
    """Delete a run of words from one text, or moves it to another place."""

    name = "spans"

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Delete with even chance, moves otherwise."""
        random = named_generator(seed, self.name, example.texts, number)
        place = int(random.integers(len(example.texts)))
        parts = example.texts[place].split()
        if len(parts) < 2:
            return example.texts
        length = int(np.clip(round(float(random.uniform(_LEAST, _MOST)) * len(parts)), 1, len(parts) - 1))
        start = int(random.integers(len(parts) - length + 1))
        span, rest = parts[start : start + length], parts[:start] + parts[start + length :]
        if random.random() < 0.5:
            at = int(random.integers(len(rest) + 1))
            rest = rest[:at] + span + rest[at:]
        return (*example.texts[:place], " ".join(rest), *example.texts[place + 1 :])


class Mix:
    """A generator that continues a text, from its middle, with the end of a train example's.

    A pair is continued with the ends of another pair, so that its texts stay related.

    Args:
        train: The task's train examples.
    """

    name = "mix"

    def __init__(self, train: Sequence[Example]) -> None:
        self._train = train

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Mix each text with the text of the same place of one random train example, cut at the same share of its words."""
        random = named_generator(seed, self.name, example.texts, number)
        others = self._train[int(random.integers(len(self._train)))].texts
        until, since = random.random(2)
        made = []
        for text, other in zip(example.texts, others, strict=True):
            parts, ending = text.split(), other.split()
            joined = parts[: math.ceil(until * len(parts))] + ending[int(since * len(ending)) :]
            made.append(" ".join(joined) if parts and ending else text)
        return tuple(made)


class PairSwap:
    """Changes the places of the two texts of a symmetric pair."""

    name = "pair_swap"

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Return the second text before the first."""
        return example.texts[::-1]


class Chain:
    """Applies generators one after the other.

    Args:
        links: At least one generator.
    """

    def __init__(self, links: Sequence[Generator]) -> None:
        self._links = links
        self.name = "+".join(link.name for link in links)

    def make(self, example: Example, number: int, seed: int) -> tuple[str, ...]:
        """Pass what one makes to the next."""
        for link in self._links:
            example = Example(example.identity, link.make(example, number, seed), example.label)
        return example.texts


def build_generators(
    names: Sequence[str],
    task: Task,
    *,
    symmetric: bool,
    neighbours: Neighbours | None = None,
    contextual: Callable[[], Generator] | None = None,
    pool: Pool | None = None,
) -> list[Generator]:
    """Return the generators of those names.

    Args:
        names: As in :class:`bort.finetuning.agora.config.AgoraConfig`; ``a+b`` is a chain.
        task: Its train examples are mixed with.
        symmetric: Whether the label of a pair stays when its texts change places.
        neighbours: For ``substitute`` and ``insert``.
        contextual: Makes the generator by that name.
        pool: Corpus sentences for ``retrieve``, which is left out where examples are pairs.

    Raises:
        ConfigurationError: A generator cannot be had for this task or from this encoder.
    """
    made: dict[str, Callable[[], Generator]] = {
        **{name: functools.partial(WordEdit, name, neighbours) for name in ("substitute", "insert", "swap", "delete")},
        "spans": Spans,
        "mix": lambda: Mix(task.train),
        "pair_swap": PairSwap,
    }
    if contextual is not None:
        made["contextual"] = contextual
    if pool is not None:
        made["retrieve"] = lambda: Retrieve(pool)
    found: list[Generator] = []
    single = all(len(one.texts) == 1 for one in task.train)
    for name in names:
        links = name.split("+")
        if "retrieve" in links and not single:
            continue
        if "retrieve" in links and pool is None:
            raise ConfigurationError("agora.generators", name, "another generator, as there is no corpus to take sentences from")
        if "pair_swap" in links and not (symmetric and all(len(one.texts) == 2 for one in task.train)):
            accepted = (
                f"another generator, as the pairs of {task.name} may not be swapped; agora.symmetric lists the tasks whose may"
            )
            raise ConfigurationError("agora.generators", name, accepted)
        if "contextual" in links and contextual is None:
            raise ConfigurationError(
                "agora.generators", name, "another generator, as there is no teacher with a masked-LM head to fill the gaps"
            )
        if neighbours is None and {"substitute", "insert"} & set(links):
            raise ConfigurationError(
                "agora.generators", name, "another generator, as there is no encoder whose embeddings could supply words"
            )
        made_links = [made[link]() for link in links]
        found.append(made_links[0] if len(links) == 1 else Chain(made_links))
    if not found:
        accepted = f"more generators, as no corpus has pairs such as those of {task.name}"
        raise ConfigurationError("agora.generators", list(names), accepted)
    return found


def drafts_of(sources: Sequence[Example], count: int, generators: Sequence[Generator], seed: int) -> Iterator[Draft]:
    """Make ``count`` points of the sources in turn, by the generators in turn.

    Args:
        sources: At least one example.
        count: Points to make.
        generators: At least one.
        seed: Decides what is drawn.
    """
    for number in range(count):
        source, generator = sources[number % len(sources)], generators[(number // len(sources)) % len(generators)]
        yield Draft(generator.make(source, number // len(sources), seed), source, generator.name)

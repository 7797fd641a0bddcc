"""Splits that depend on the texts and a seed alone, never on the order of a file."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from bort.randomness import named_rank
from bort.tasks.task import Example


class _WithoutPunctuation(dict[int, str | None]):
    """A translation table that drops punctuation, spaces and control characters; filled as characters are met."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        self[code] = None if unicodedata.category(character)[0] in "PZC" else character
        return self[code]


_TABLE = _WithoutPunctuation()


def text_key(example: Example) -> str:
    """Returns the key under which examples are the same: case, spacing, punctuation and Unicode form of a text do not count."""
    texts = (*example.texts, *example.options)
    keys = [unicodedata.normalize("NFKC", text).casefold().translate(_TABLE) or text.strip() for text in texts]
    return "\x1f".join(keys)


def spread(examples: Sequence[Example], strata: Sequence[Hashable], seed: int) -> list[list[Example]]:
    """Orders examples so that every prefix is a random sample with the strata in proportion.

    Each group of examples with the same text (or the same ``unit``) gets a pseudo-random rank within its stratum, from a digest of
    seed and text; sorting by rank over stratum size interleaves the strata. A prefix is therefore stratified, a shorter one is a
    subset of a longer one, and neither depends on the order of the file.

    Args:
        examples: The examples.
        strata: The stratum of each, such as its class; that of a group is its first member's.
        seed: Another seed gives another order.

    Returns:
        Groups of examples with the same text or unit, in order.
    """
    groups: dict[str, list[tuple[Example, Hashable]]] = defaultdict(list)
    for example, stratum in zip(examples, strata, strict=True):
        groups[f"\x1e{example.unit}" if example.unit else text_key(example)].append((example, stratum))
    ranked: dict[Hashable, list[tuple[str, list[Example]]]] = defaultdict(list)
    for key, members in groups.items():
        members.sort(key=lambda member: (member[0].texts, member[0].options, member[0].label, member[0].index))
        mark = named_rank(seed, key)
        ranked[members[0][1]].append((mark, [example for example, _ in members]))
    ordered = []
    for members_of_stratum in ranked.values():
        members_of_stratum.sort(key=lambda pair: pair[0])
        count = len(members_of_stratum)
        ordered += [((rank + 0.5) / count, mark, group) for rank, (mark, group) in enumerate(members_of_stratum)]
    ordered.sort(key=lambda triple: triple[:2])
    return [group for _, _, group in ordered]


def fewer_options(example: Example, most: int | None, seed: int) -> Example:
    """Returns an example with at most ``most`` options: the right ones (as many as fit) and a draw of the others, in their order.

    The draw is a function of the example and the seed. One wrong option at least is kept, for there is nothing to learn without.
    """
    if most is None or len(example.options) <= most:
        return example

    def rank(index: int) -> str:
        return named_rank(seed, example.identity, index)

    ordered = sorted(range(len(example.options)), key=rank)
    right = [index for index in ordered if index in example.right][: most - 1]
    wrong = [index for index in ordered if index not in example.right][: most - len(right)]
    kept = sorted([*right, *wrong])
    return replace(example, options=tuple(example.options[index] for index in kept), label=float(kept.index(min(right))))


def share(size: float, total: int) -> int:
    """Returns how many of ``total`` examples a share (below 1) or a number (1 or more) stands for."""
    return round(size * total) if size < 1 else int(size)


def take(groups: list[list[Example]], count: int) -> tuple[list[Example], list[list[Example]]]:
    """Takes whole groups from the front until ``count`` examples are reached; returns them and the groups that are left."""
    taken: list[Example] = []
    used = 0
    for group in groups:
        if len(taken) >= count:
            break
        taken += group
        used += 1
    return taken, groups[used:]

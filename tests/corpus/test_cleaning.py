from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bort.corpus import duplicates
from bort.corpus.build import build_corpus
from bort.corpus.config import LANGUAGES, CleaningConfig, CorpusConfig
from bort.corpus.duplicates import near_duplicates, signatures
from bort.corpus.language import is_in, scores
from bort.corpus.markup import without_markup, without_tables
from bort.errors import ConfigurationError

# Article 1 of the Universal Declaration of Human Rights, and a sentence more where it has fewer than twenty words.
ARTICLE = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen "
    "einander im Geist der Brüderlichkeit begegnen.",
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should "
    "act towards one another in a spirit of brotherhood.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia, "
    "deben comportarse fraternalmente los unos con los otros.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience et "
    "doivent agir les uns envers les autres dans un esprit de fraternité.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di coscienza e "
    "devono agire gli uni verso gli altri in spirito di fratellanza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en geweten, en "
    "behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem "
    "i powinni postępować wobec innych w duchu braterstwa.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência, devem "
    "agir uns para com os outros em espírito de fraternidade.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete och bör handla "
    "gentemot varandra i en anda av gemenskap.",
}


@pytest.mark.parametrize("language", ARTICLE)
def test_languages_are_told_apart(language: str):
    found = scores(ARTICLE[language])
    assert max(found, key=lambda name: found[name]) == language
    assert [name for name in LANGUAGES if is_in(ARTICLE[language], name, 0.1)] == [language]


def test_what_is_no_prose_scores_low_and_short_texts_are_not_judged():
    code = "for index in range(len(values)): total += values[index] * weights[index]; result.append(total)\n" * 5
    names = "Smith Jones Brown Taylor Wilson Davies Evans Thomas Johnson Roberts Walker Wright Robinson Thompson White Hughes"
    assert not is_in(code, "en", 0.2)
    assert not is_in(f"{names} {names}", "en", 0.1)
    assert scores("the end of it") == {}
    assert is_in("the end of it", "fr", 0.1)


def test_html_is_taken_out():
    text = (
        "<!DOCTYPE html><html><head><title>No</title><style>p {}</style></head><body><!-- no --><h1>A title</h1>"
        "<p class='x'>Fish &amp; chips<br>cost 3 &lt; 4&nbsp;pounds.</p><script>var no = '<p>';</script><ul><li>one</li>"
        "</ul></body></html>"
    )
    assert without_markup(text, ["html"]).split() == ["A", "title", "Fish", "&", "chips", "cost", "3", "<", "4", "pounds.", "one"]
    plain = "when a < b and c > d, 2 <3"
    assert without_markup(plain, ["html"]) == plain


def test_wiki_text_is_taken_out():
    text = (
        "{{Infobox|name={{nested|{{deep}}}}}}\n'''Ox''' is an [[animal|beast]] of [[Asia]].<ref name='a'>No.</ref>"
        "<ref name='b' />\n"
        "[[File:Ox.jpg|thumb|An [[ox]] at [[work|its work]]]]\n== Use ==\n* It ''pulls'' [https://example.org carts].\n"
        "{| class='wikitable'\n| no || no\n|}\n[[Category:Cattle]] __NOTOC__ <!-- no --> H<sub>2</sub>O &ndash; water"
    )
    expected = "Ox is an beast of Asia. Use It pulls carts. H2O – water"
    assert without_markup(text, ["wiki"]).split() == expected.split()


def test_tables_are_taken_out():
    text = (
        "before\n<table><tr><td>no<table><tr><td>no</td></tr></table></td></tr></table>\nbetween\n{| \n| no\n{|\n| no\n|}\n|}\n"
        "| no | no |\n|----|----|\n| no | no |\nafter\nno\tno\nno\tno\nno\tno\nend a | b stays\none\ttab stays"
    )
    assert without_tables(text).split() == ["before", "between", "after", "end", "a", "|", "b", "stays", "one", "tab", "stays"]


@pytest.mark.parametrize(
    "text",
    [
        "{{" * 20_000,
        "<" * 40_000,
        "[[a|" * 10_000,
        "<table>" * 5_000,
        "{|" * 20_000,
        "|a\n" * 20_000,
        "<!--" * 20_000,
        "<script>" * 10_000,
        "<ref>" * 10_000,
        "== " + " " * 20_000,
        "a\t" * 20_000,
    ],
)
def test_broken_markup_takes_no_quadratic_time(text: str):
    def seconds(part: str) -> float:
        began = time.process_time()
        without_tables(without_markup(part, ["wiki", "html"]))
        return time.process_time() - began

    # Four times the text would take sixteen times as long.
    assert min(seconds(text) for _ in range(3)) < 8.0 * min(seconds(text[: len(text) // 4]) for _ in range(3))


def words(draw: random.Random, count: int) -> list[str]:
    return ["".join(draw.choices("abcdefghij", k=draw.randint(2, 6))) for _ in range(count)]


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    """The plain way: runs of words in lower case, punctuation made spaces."""
    parts = "".join(c.lower() if c.isalnum() or ord(c) > 127 else " " for c in text).split()
    return {tuple(parts[at : at + size]) for at in range(len(parts) - size + 1)} or ({tuple(parts)} if parts else set())


def jaccard(one: str, other: str, size: int = 5) -> float:
    first, second = shingles(one, size), shingles(other, size)
    return len(first & second) / len(first | second)


def test_signatures_estimate_the_jaccard_similarity():
    draw = random.Random(0)
    base = words(draw, 400)
    texts = [" ".join(base)]
    for changed in (1, 4, 12, 30):
        other = list(base)
        for place in draw.sample(range(400), changed):
            other[place] = "changed"
        texts.append(", ".join(other).upper())
    found = signatures([text.encode() for text in texts], 5)
    for place, text in enumerate(texts):
        # Three standard errors of the estimate.
        assert (found[0] == found[place]).mean() == pytest.approx(jaccard(texts[0], text), abs=3 * 0.5 / 128**0.5)


def test_signatures_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch):
    draw = random.Random(1)
    texts = [" ".join(words(draw, draw.randint(0, 60))).encode() for _ in range(40)] + [b"", b" .,- ", "é ü".encode(), b"one"]
    whole = signatures(texts, 5)
    assert (np.concatenate([signatures([text], 5) for text in texts]) == whole).all()
    monkeypatch.setattr(duplicates, "_TEXT_BYTES", 300)
    assert (signatures(texts, 5) == whole).all()
    assert (whole[-4:-2] == np.iinfo(np.uint32).max).all()
    assert (whole[-1] != whole[-2]).any()
    assert signatures([], 5).shape == (0, duplicates.MINIMA)


@pytest.mark.parametrize("budget", [1, duplicates.BAND_BYTES])
def test_near_duplicates_are_those_of_the_plain_comparison(budget: int, monkeypatch: pytest.MonkeyPatch):
    draw = random.Random(2)
    texts: list[str] = []
    for _ in range(30):
        base = words(draw, 200)
        texts.append(" ".join(base))
        for changed in draw.choice([(), (1,), (1, 2), (40,)]):
            other = list(base)
            for place in draw.sample(range(200), changed):
                other[place] = "changed"
            texts.append(" ".join(other))
    draw.shuffle(texts)
    texts += ["", "..."]
    similar = [[place for place in range(at) if jaccard(texts[place], texts[at]) >= 0.8] for at in range(len(texts) - 2)]
    expected = [bool(found) for found in similar] + [False, False]
    found = signatures([text.encode() for text in texts], 5)
    monkeypatch.setattr(duplicates, "_PAIRS", 17)
    repeated = near_duplicates(len(texts), lambda chosen: found[chosen], 0.8, budget)
    assert repeated.tolist() == expected
    assert 5 < sum(expected) < 40


def test_bands_find_what_they_should():
    for threshold in (0.5, 0.8, 0.9, 1.0):
        bands, rows = duplicates._bands(threshold)
        assert bands * rows <= duplicates.MINIMA
        assert 1 - (1 - threshold**rows) ** bands >= 0.95
    assert duplicates._bands(0.8) == (18, 7)


def test_counts_of_every_step_stand_in_the_record(tiny_documents: list[str], tiny_tokenizer: Any, tmp_path: Path):
    german = "der alte könig und die stadt sind nicht mehr da , das ist ein brief von dem winter und er hat sich mit uns . " * 2
    near = tiny_documents[3].replace("story 3", "story 99")
    rows = [
        *tiny_documents,
        *tiny_documents[:5],
        near,
        german,
        "two words",
        f"<b>{tiny_documents[0]}</b> more of it",
        f"{tiny_documents[1]}\n| a | b |\n| c | d |",
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows), encoding="utf-8")
    cleaning = CleaningConfig(
        tables=True, min_words=5, language="en", language_score=0.05, duplicates=True, near_duplicates=0.7, shingle_words=3
    )
    config = CorpusConfig(path=str(path), markup=["html"], block_length=16, cleaning=cleaning)
    counted = build_corpus(config, tiny_tokenizer, tmp_path / "corpus")["cleaning"]
    assert counted["tables"] == {"documents": 1, "characters": 20}
    assert counted["markup"] == {"documents": 1, "characters": 7}
    assert counted["short"] == {"documents": 1, "characters": 9}
    assert counted["language"] == {"documents": 1, "characters": len(german.strip())}
    # The fifth equal document is the one whose table was removed.
    assert counted["duplicates"]["documents"] == 6
    assert counted["near_duplicates"]["documents"] >= 2
    assert counted["near_duplicates"]["tokens"] > 20
    plain = build_corpus(CorpusConfig(path=str(path), block_length=16), tiny_tokenizer, tmp_path / "plain")
    assert plain["cleaning"] == {}


@pytest.mark.parametrize(
    ("cleaning", "key"),
    [(CleaningConfig(language="pl"), "corpus.cleaning.language"), (CleaningConfig(min_words=500), "corpus.cleaning.min_words")],
)
def test_a_step_that_leaves_nothing_is_named(
    cleaning: CleaningConfig, key: str, tiny_text_directory: Path, tiny_tokenizer: Any, tmp_path: Path
):
    with pytest.raises(ConfigurationError, match="leaves any of the 80 documents") as refused:
        build_corpus(CorpusConfig(path=str(tiny_text_directory), cleaning=cleaning), tiny_tokenizer, tmp_path / "corpus")
    assert refused.value.key == key

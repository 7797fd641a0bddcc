"""Which language a text is in, by its commonest words: small, without downloads, and honest about what it cannot tell.

The score of a language is the share of a text's words that are among its commonest. Running text in a language has a quarter to a
half of such words; other languages, lists of names and computer code have few. Close relatives share many of them: Danish and
Norwegian, for one, are not told apart. Languages without spaces between words are not known.
"""

from __future__ import annotations

import re

from bort.corpus.config import LANGUAGES

#: A text of fewer words is not judged.
JUDGED_WORDS = 20
#: So much of a text is looked at.
_CHARACTERS = 10_000
_WORD = re.compile(r"[^\W\d_]+")
_COMMON = {
    "cs": "a se v na je že o s z do i to k ve pro za by ale si po jsem od jako který jsou tak podle nebo být které bylo jeho",
    "da": "og i at det er en til på som af for med den der de ikke et han var har jeg om fra ved men efter vi eller sin også blev",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass",
    "el": "και το να του η της με που την από για τα είναι των σε ο οι στο θα τη στην τον τους δεν ένα μια ότι ήταν κατά στη",
    "en": "the of and to in a is that for it was on as with his he be by at from this are had not but or have an which were they",
    "es": "de la que el en y a los se del las un por con una su para es al lo como más o pero sus le ha este sí porque entre era",
    "fi": "ja on ei että se oli hän mutta ovat kun myös tai joka niin kuin sen hänen olla mukaan ole jo vain vuonna hän ne",
    "fr": "de la le et les des en un du une que est dans qui par pour au il sur plus ne se pas avec ce sont son ou aux elle cette",
    "hu": "a az és hogy is nem egy volt de meg ez csak azt mint el még már van vagy ha ki szerint majd után két kell lehet sem aki",
    "it": "di e il la che in a per un è del della non i con si da le una sono al dei nel come alla gli ha più anche delle lo ma",
    "nl": "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar bij of uit nog naar door over hij",
    "pl": "w i z na się nie do że to jest o jak od za po przez co dla był ale jego czy są oraz tym było być który także już tego",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou são",
    "ro": "de și în a la cu o pe din nu că un care mai este pentru al fi lui sau au prin după ale sunt fost ca se lor fiind între",
    "ru": "и в не на что он с как а то это по из я к но за у же от его так о бы для мы все был она или они до при также году был",
    "sv": "och i att det som en på är av för med den till inte har de ett om han men var jag från så hade eller kan vid när",
    "tr": "ve bir bu da de için ile çok olarak daha olan gibi sonra en kadar ne ama her o ki olduğu değil ya diye var ise",
    "uk": "і в на що не з до та у за як це його від про для він але є був або також які яка року було її вони із й бути під при",
}
_WORDS = {language: frozenset(_COMMON[language].split()) for language in LANGUAGES}


def scores(text: str) -> dict[str, float]:
    """Returns the score of each language, from 0 to 1; none where the text has fewer than :data:`JUDGED_WORDS` words."""
    words = _WORD.findall(text[:_CHARACTERS].lower())
    if len(words) < JUDGED_WORDS:
        return {}
    return {language: sum(word in common for word in words) / len(words) for language, common in _WORDS.items()}


def is_in(text: str, language: str, least: float) -> bool:
    """Returns whether a text counts as being in ``language``: no language scores higher, and its score is at least ``least``.

    Texts that are too short to be judged count as in any language.
    """
    found = scores(text)
    return not found or (found[language] >= least and found[language] >= max(found.values()))

"""The baselines by their names in settings and results."""

from __future__ import annotations

#: Titles by name, in the order in which baselines stand in tables.
TITLES = {
    "majority": "majority class",
    "tfidf": "TF-IDF of 1- and 2-grams + linear",
    "embeddings": "teacher's embedding layer, frozen + linear",
    "static": "static vectors of the teacher + linear",
    "static_small": "static vectors no larger than the student + linear",
    "frozen": "teacher, frozen + linear",
}
BASELINES = tuple(TITLES)

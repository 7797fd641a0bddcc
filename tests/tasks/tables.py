"""Small tables for the tests of this room, and an observer that keeps what it is told."""

from __future__ import annotations


class Warnings:
    def __init__(self):
        self.said = []

    def warn(self, message):
        self.said.append(message)

    def progress(self, *_):
        pass

    def metrics(self, *_):
        pass


def write(path, rows, header=("text", "label")):
    path.write_text("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return str(path)


def rows(count=100):
    return [(f"sentence number {index}", index % 2) for index in range(count)]

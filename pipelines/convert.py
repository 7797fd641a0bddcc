"""`bort convert`: the original Bort's weights, as they were published, into a directory that transformers loads."""

from __future__ import annotations

import argparse
import sys

from .app.main import guarded


def main() -> None:
    """Converts what the command line names."""
    parser = argparse.ArgumentParser(prog="bort convert", description=__doc__.partition(": ")[2])
    parser.add_argument("source", help="bort.params of github.com/alexa/bort, or a folder with amazon/bort of the hub")
    parser.add_argument("directory", help="the folder to write; it must not be there yet")
    parser.add_argument("--heads", type=int, help="attention heads, which a .params file does not tell (default: by its depth)")
    parser.add_argument("--tokenizer", help="a folder with RoBERTa's tokenizer, which is Bort's")
    options = parser.parse_args(sys.argv[1:])
    guarded(lambda: _convert(options))


def _convert(options: argparse.Namespace) -> None:
    from bort.export.originals import convert_original

    from .app.console import console

    directory = convert_original(options.source, options.directory, heads=options.heads, tokenizer=options.tokenizer)
    console.print(f"{directory} holds the encoder. Its masked-LM head was never published: distil or fine-tune from it, but do not")
    console.print("fill masks with it.")
    if options.tokenizer is None and not (directory / "tokenizer.json").exists():
        console.print("It has no tokenizer yet; --tokenizer FOLDER with RoBERTa's adds one.")


if __name__ == "__main__":
    main()

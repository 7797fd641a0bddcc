"""Unlabelled text to deterministic batches: read, split by document, tokenise, pack, order, mask."""

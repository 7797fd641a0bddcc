"""The teacher: an encoder of transformers, its masked-LM head if it has one, and its soft targets, computed once and kept."""

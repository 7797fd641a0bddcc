"""The frame around every command: Hydra, command lines, messages, the console."""

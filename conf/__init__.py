"""Hydra's configuration: a folder for every choice a user makes, a file for every answer."""

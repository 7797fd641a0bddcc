"""Storages of a study, each with the locks that keep its workers apart."""

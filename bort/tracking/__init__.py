"""Runs, metrics and artifacts: written to a local spool first, delivered to MLflow when it can be reached."""

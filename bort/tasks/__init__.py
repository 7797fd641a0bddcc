"""Labelled data: GLUE, SuperGLUE, RACE and a user's own; metrics, baselines, intervals and submission files."""

"""Distillation: the losses, the student, the resumable training loop, and the estimator that a search asks for errors."""

"""Fine-tuning of an encoder on a task: heads, the training loop, the search over Θ, scores over seeds."""

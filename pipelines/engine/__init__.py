"""What runs stages: the chain, its schema, processes and workers."""

"""What a practitioner would try before a distilled student: cheap models on the same splits, with score, size, latency and cost."""

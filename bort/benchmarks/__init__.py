"""Benchmarks of the product: strategies, engines, objectives, Agora, serving, cost. They stand on top of it."""

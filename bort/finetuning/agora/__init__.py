"""Agora: fine-tuning on what a model gets wrong, with points made by generators and labelled by a model that is only so good."""

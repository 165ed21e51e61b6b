"""Evaluations, one protocol a file, each a binary over the same checkpoints."""

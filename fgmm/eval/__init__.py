"""Evaluations of checkpoints: one protocol in each file, which is also a program."""

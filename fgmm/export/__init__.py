"""Weights out of a run, one format a file; ``python -m fgmm.export`` is the program."""

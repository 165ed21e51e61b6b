"""Turns raw files into sharded ArrayRecord: the parts of ``python -m fgmm.data.prepare``."""

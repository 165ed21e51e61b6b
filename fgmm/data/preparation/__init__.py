"""Raw files to sharded ArrayRecord: the parts of ``python -m fgmm.data.prepare``."""

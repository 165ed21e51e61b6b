"""Accelerator kernels behind ``fgmm.losses.similarity``: one module for each kind of device."""

"""Video encoders, one family per file, found by ``config.model.video.name``.

A module here defines a flax module ``Encoder`` whose fields are its options and whose call is
``(frames [B,T,H,W,3] float, mask [B], train) -> Tokens``, with grid (T', H', W').
"""

"""Audio encoders, one family per file, found by ``config.model.audio.name``.

A module here defines a flax module ``Encoder`` whose fields are its options and whose call is
``(log_mel [B,T,F] float, mask [B], train) -> Tokens``, with grid (T', F').
"""

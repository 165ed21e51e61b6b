"""Text encoders, one family per file, found by ``config.model.text.name``.

A module here defines a flax module ``Encoder`` whose fields are its options and whose call is
``(tokens [B,K,L], phrase_ids [B,K,L], train) -> Tokens``, with grid (K, P).
"""

"""Encoders and heads as flax modules: pure functions of their variables. They import no losses."""

"""Encoders and heads as flax modules: pure functions of their variables. They know no losses."""

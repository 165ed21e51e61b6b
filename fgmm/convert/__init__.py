"""Published weights as checkpoints of this package: one module for each family of models."""

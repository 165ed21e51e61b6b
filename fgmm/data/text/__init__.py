"""Captions: read, split into phrases and tokens."""

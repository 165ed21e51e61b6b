"""Transforms on the device, inside the step."""

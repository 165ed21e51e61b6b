"""Video, sound and picture files: read, decoded, brought to size."""

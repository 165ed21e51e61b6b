"""Published weights as checkpoints of this package, one model a file, each a program."""

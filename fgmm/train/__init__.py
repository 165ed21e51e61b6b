"""The training program: loop, step, checkpoints. It does not import the evaluations."""

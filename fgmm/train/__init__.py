"""One training program: state, step, loop, checkpoints. It does not know the evaluations."""

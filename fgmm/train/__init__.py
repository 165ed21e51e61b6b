"""One training program: state, step, loop, checkpoints. It knows no evaluation."""

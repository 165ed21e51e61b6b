"""What is claimed about speed, memory and scale, runnable from the root of the repository."""

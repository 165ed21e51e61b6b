"""What training and evaluation share: the objects of a run, built from its config."""

"""The objects of a run, built from its config; training and evaluation share them."""

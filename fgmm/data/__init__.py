"""Records in, batches out: everything that happens on the host."""

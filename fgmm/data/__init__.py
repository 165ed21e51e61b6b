"""Records in, batches out, on the host. ``augmentation`` runs on the device."""

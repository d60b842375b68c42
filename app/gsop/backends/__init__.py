"""What computes: one model version on one device."""

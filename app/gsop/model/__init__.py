"""GSoP-ResNets: their configuration (no torch) and their networks (torch)."""

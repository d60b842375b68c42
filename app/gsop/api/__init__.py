"""The protocols that the service speaks, a package each."""

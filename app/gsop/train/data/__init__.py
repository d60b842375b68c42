"""Training data: what they are, where they come from, and how they reach the loop."""

"""What happens inside a network for one image: what its gates are made of, and what they do."""

"""Serve GSoP-ResNets over HTTP and show the attention gates inside them."""

__version__ = "0.1.0"

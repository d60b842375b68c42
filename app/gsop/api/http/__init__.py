"""The HTTP surface. No module in here imports torch."""

"""What images are called in a body."""

FIELD = "image"
"""The multipart field, and the JSON member, that holds an image."""

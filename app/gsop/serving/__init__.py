"""The fronts' side, without a protocol: from an image's bytes to its answer. No torch."""

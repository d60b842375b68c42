"""Model versions on disk: what one is, and how it is verified, published and loaded."""

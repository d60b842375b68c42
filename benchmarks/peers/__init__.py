"""Other servers, with the same network and the same decoder, each in an environment of its own."""

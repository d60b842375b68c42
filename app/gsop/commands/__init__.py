"""What the command line does, a module a command; ``__main__.py`` parses."""

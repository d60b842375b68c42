"""What the command line does, a module a command; ``app/__main__.py`` parses."""

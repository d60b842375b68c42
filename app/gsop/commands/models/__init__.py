"""``gsop models``: the store's commands, a module each, and what several of them read."""

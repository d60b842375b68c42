"""How any process of the service is born, watched and ended."""

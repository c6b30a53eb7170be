"""How a world is judged."""

"""How fast a world is, and why: measured beside what the machine could do."""

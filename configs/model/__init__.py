"""The size of the transformer; it replaces the world's own."""

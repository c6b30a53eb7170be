"""What the world remembers; it replaces the world's own memory settings."""

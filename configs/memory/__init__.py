"""Memory presets."""

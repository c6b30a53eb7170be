"""What stages learn from: frames, latents, actions and texts, as they lie in memory."""

"""cfworld: generated worlds with long memory, as Gymnasium environments."""

"""How a world is judged: against its twin, on seeds that were never trained on, beside degenerate controls."""

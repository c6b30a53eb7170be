"""Episodes and rollouts in the formats of others."""

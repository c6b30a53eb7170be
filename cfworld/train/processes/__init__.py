"""Several processes as one team: who does what, and who writes what."""

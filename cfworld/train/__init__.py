"""Training: one loop, and a stage for each thing that is trained."""

"""Stages 1 and 2: the student's own rollouts, the scores that judge them, and what holds it to its teacher."""

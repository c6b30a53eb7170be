"""Worlds to train."""

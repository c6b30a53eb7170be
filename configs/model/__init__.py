"""Transformer sizes."""

"""The shipped world of ViZDoom's TakeCover."""

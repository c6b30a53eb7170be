"""The shipped world of the panorama."""

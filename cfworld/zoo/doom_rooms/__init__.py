"""The shipped world of the rooms of ViZDoom's MyWayHome."""

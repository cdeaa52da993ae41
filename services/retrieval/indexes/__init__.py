"""Indexes: how chunks are kept and found, by vectors and by words."""

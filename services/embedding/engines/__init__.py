"""Engines that compute vectors and scores."""

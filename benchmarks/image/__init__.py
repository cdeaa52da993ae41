"""Benchmark of images: our service beside plain calls of the same diffusers pipeline."""

"""Writes model repositories for Triton: `penstock triton export`."""

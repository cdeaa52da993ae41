"""Triton Inference Server, as the engines of all services use it: endpoints, models, calls."""

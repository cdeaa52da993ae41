"""Engines: what runs a model. Each one implements the port in `services.inference.engine`."""

"""Benchmark of text generation: our engines beside those that people would pick instead."""

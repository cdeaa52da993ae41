"""Trainers: what runs workers."""

"""Migrations of the schema of responses."""

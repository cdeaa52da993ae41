"""The `penstock` command: a supervisor for the platform, and a client of it."""

"""The chassis that every service stands on: serving, identity, validation, errors, health,
channels."""

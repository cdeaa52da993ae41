"""Engines that draw images; each is a module that only its processes import."""

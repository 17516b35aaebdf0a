"""Tries the provider against a real vault, and writes what came out: ``make live``."""

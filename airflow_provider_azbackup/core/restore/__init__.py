"""Restore targets, the checks of a restore, and its request."""

"""What waits, gates and imports cost."""

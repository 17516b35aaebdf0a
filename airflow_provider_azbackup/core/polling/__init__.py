"""How often to read, and one list of a vault for all that wait there."""

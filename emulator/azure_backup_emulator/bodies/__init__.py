"""JSON as the recorded service writes it."""

"""Conversations of several requests: retries, operations, jobs, items, recovery points."""

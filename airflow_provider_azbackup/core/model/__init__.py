"""What Azure Backup's answers are about: ids, items, jobs, recovery points, error codes."""

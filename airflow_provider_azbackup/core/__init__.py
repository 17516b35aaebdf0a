"""What to ask Azure Backup and what its answers mean: no sockets, no clock, no sleep, no Airflow."""

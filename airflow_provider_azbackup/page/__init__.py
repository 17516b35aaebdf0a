"""The Azure Backup page in Airflow's UI and the tab of a task instance. Both run in the API server."""

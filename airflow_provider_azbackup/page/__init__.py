"""The page "Azure Backup" in Airflow's UI and the tab of a task instance; it lives in the API server."""

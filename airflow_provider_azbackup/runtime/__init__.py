"""The clock, HTTP, and all that depends on the release of Airflow."""

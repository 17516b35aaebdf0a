"""A real Airflow with database, broker and emulator, for the demo and the tests."""

"""Releases of Airflow, locks, artefacts and the site."""

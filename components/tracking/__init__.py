"""Runs on a server of MLflow: what is sent, where it waits, and the process that sends it."""

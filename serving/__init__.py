"""Asking a pushed model for predictions."""

"""The types of columns: a module each."""

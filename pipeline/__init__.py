"""The pipeline, and its runs on this machine."""

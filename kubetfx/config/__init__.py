"""The typed tree behind pipeline.yaml, a module per section."""

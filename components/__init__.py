"""TFX components for tasks where TFX has none, or where TFX's own are too slow or incomplete."""

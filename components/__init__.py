"""TFX components where TFX has none, is too slow, or stops short."""

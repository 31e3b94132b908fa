"""The `kubetfx` command: the roof of the house. Who imports kubetfx needs nothing of it."""

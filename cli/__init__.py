"""The `kubetfx` command: the roof of the house. Nothing here is needed by who imports kubetfx."""

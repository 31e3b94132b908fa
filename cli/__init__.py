"""The `kubetfx` command. Importing kubetfx as a library does not need this package."""

"""`python -m kubetfx` is `kubetfx`."""

from kubetfx.cli.app import main

main()

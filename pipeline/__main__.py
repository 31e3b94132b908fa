"""`python -m pipeline` is `kubetfx`."""

from pipeline.cli import main

main()

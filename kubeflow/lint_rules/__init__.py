"""The rules of `kubetfx lint`, a module per subject."""

"""The push directory: versions that appear and go whole, and a push that is verified."""

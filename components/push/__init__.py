"""The push directory: versions that appear and disappear atomically, and verified pushes."""

"""What a pipeline is, and running it on this machine."""

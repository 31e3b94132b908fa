"""Images: all that is only theirs, from the bytes of a file to the network's vector, and what depends on it."""

"""What others build for the same job, as good as it gets."""

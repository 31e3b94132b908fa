"""The search for better settings: its space, its trials, and the study that keeps them."""

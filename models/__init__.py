"""What is learned: features, networks, training, and the SavedModel."""

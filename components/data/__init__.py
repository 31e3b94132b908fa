"""What goes into the pipeline: reading and checking tables and images, and tf.Examples as columns."""

"""The input of the pipeline: reading and checking tables and images, and tf.Examples as columns."""

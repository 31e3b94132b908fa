"""From a table, images or text to a model in production: a Kubernetes-native TFX pipeline."""

"""What is served, beside what the model was trained on: the requests of a log, and labels that arrive later."""

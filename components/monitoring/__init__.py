"""Compares what is served with the training data: logged requests, and labels that arrive later."""

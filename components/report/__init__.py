"""The report of a run: facts out of artifacts, figures, pages, the model card, metrics for machines."""

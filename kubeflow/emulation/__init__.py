"""What kubeflow/emulator.py does as Kubeflow Pipelines' driver, launcher and importer do it, a module per subject."""

"""The commands around Kubeflow Pipelines.

Nothing heavy is imported before a command runs.
"""

import typer

app = typer.Typer()

"""The commands around Kubeflow Pipelines.

Nothing heavy is imported before a command runs.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.command import ConfigPath, FormatOption, Overrides, load, open_output
from pipeline.output import logged_to

app = typer.Typer()


@app.command("compile")
def compile_command(
    config: ConfigPath,
    output_path: Annotated[Path, typer.Option("--output", help="File to write, ending in .yaml.")] = Path(
        "package.yaml"
    ),
    kubernetes_manifest: Annotated[
        bool, typer.Option("--kubernetes-manifest", help="Write Pipeline and PipelineVersion resources, for GitOps.")
    ] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Compile the pipeline to a package that open-source Kubeflow Pipelines v2 runs."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    output.begin("Compiling")

    from kubeflow.spared_imports import spared_imports

    with logged_to(Path(os.devnull)), spared_imports():  # TensorFlow and the kfp SDK talk when they are imported
        from kubeflow.package import compile_to_file

        package = compile_to_file(pipeline_config, output_path, kubernetes_manifest=kubernetes_manifest)
    output.end()
    if format == "json":
        output.document({"package": str(output_path), "parameters": package.parameters})
    output.say(f"Wrote {output_path}. Run parameters: {', '.join(package.parameters)}")

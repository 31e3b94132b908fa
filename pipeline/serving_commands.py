"""The commands around a pushed model: `kubetfx predict`, `serve`.

Nothing heavy is imported before a command runs.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.command import ConfigPath, FormatOption, Overrides, load, open_output
from pipeline.errors import UsageError

app = typer.Typer()


@app.command()
def predict(
    config: ConfigPath,
    rows: Annotated[Path, typer.Option(help="CSV, JSON or JSON lines with the model's columns.", show_default=False)],
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Predict with the newest pushed model, without a server."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from components import push_directory
    from pipeline.output import logged_to
    from serving import offline

    versions = push_directory.versions(pipeline_config.push_path)
    if not versions:
        raise UsageError(
            f"No model was pushed yet. Received: {pipeline_config.push_path}. Push one: kubetfx run {config}"
        )
    saved_model = push_directory.version_path(pipeline_config.push_path, versions[-1])
    output.begin("Loading the model")
    pipeline_config.workspace_path.mkdir(parents=True, exist_ok=True)
    with logged_to(pipeline_config.workspace_path / "predict.log"):
        predictions = offline.predict(saved_model, rows, missing_values=pipeline_config.data.missing_values)
    output.end()
    if format == "json":
        output.document(
            {
                "model_name": pipeline_config.model_name,
                "version": versions[-1],
                "predictions": [
                    {key: value for key, value in asdict(prediction).items() if value is not None}
                    for prediction in predictions
                ],
            }
        )
    elif predictions[0].value is not None:
        rows_of_table = [[str(number), f"{p.value:.6g}"] for number, p in enumerate(predictions, start=1)]
        output.table(["row ", "value "], rows_of_table)
    else:
        rows_of_table = [[str(n), p.label or "", f"{p.score:.4f}"] for n, p in enumerate(predictions, start=1)]
        output.table(["row ", "label", "score "], rows_of_table)


@app.command()
def serve(  # noqa: PLR0913, PLR0917 - the options of a command
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="pipeline.yaml", show_default=False)] = None,
    model_name: Annotated[str, typer.Option(help="Without a config: name that clients ask for.")] = "default",
    model_base_path: Annotated[
        Path | None, typer.Option(help="Without a config: folder of numbered versions.", show_default=False)
    ] = None,
    model_config_file: Annotated[
        Path | None, typer.Option(help="Several models: a ModelServerConfig as text.", show_default=False)
    ] = None,
    rest_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    engine: Annotated[
        Literal["embedded", "tf-serving"], typer.Option(help="tf-serving: the real binary, or its container.")
    ] = "embedded",
    enable_batching: Annotated[bool, typer.Option(help="Compute rows of several requests at once.")] = False,
    overrides: Overrides = None,
) -> None:
    """Serve pushed models over TensorFlow Serving's REST and gRPC; new versions are picked up as they are pushed."""
    output = open_output("human")
    if config:
        pipeline_config = load(config, overrides)
        model_name, model_base_path = pipeline_config.model_name, pipeline_config.push_path
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    output.begin("Loading the server")
    from serving.model_config import ModelConfig
    from serving.server import ServerOptions, serve_with_tf_serving
    from serving.server import serve as serve_embedded

    output.end()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    options = ServerOptions(
        models=(ModelConfig(model_name, model_base_path.absolute()),) if model_base_path else (),
        model_config_file=model_config_file,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        enable_batching=enable_batching,
    )
    if engine == "tf-serving":
        raise typer.Exit(serve_with_tf_serving(options))
    serve_embedded(options)

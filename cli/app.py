"""The `kubetfx` command: parses, calls one function, prints through cli/output.py."""

import atexit
import gc
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kubetfx.artifacts import EVAL, TABLE_PROFILE, split_folder
from kubetfx.cli import pipeline_libraries
from kubetfx.cli.cross_validation_commands import app as cross_validation_app
from kubetfx.cli.doctor_commands import app as doctor_app
from kubetfx.cli.invocation import (
    ConfigPath,
    FormatOption,
    Overrides,
    command_line,
    current_output,
    load,
    naming_options,
    open_output,
    quoted,
    shown,
)
from kubetfx.cli.kubeflow_commands import app as kubeflow_app
from kubetfx.cli.mirror_commands import app as mirror_app
from kubetfx.cli.monitor_commands import app as monitor_app
from kubetfx.cli.node_commands import app as node_app
from kubetfx.cli.output import Output
from kubetfx.cli.predict_commands import app as predict_app
from kubetfx.cli.report_commands import app as report_app
from kubetfx.cli.run_output import check_blessed, print_result
from kubetfx.cli.serve_commands import app as serve_app
from kubetfx.cli.tune_commands import app as tune_app
from kubetfx.cli.version_commands import app as version_app
from kubetfx.config.loading import section_of
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.engine.probe import version_of
from kubetfx.errors import KubetfxError, NodeFailedError, UsageError
from kubetfx.pipeline.interruption import interrupt_once
from kubetfx.redirection import logged_to
from kubetfx.version import own_version

_INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From a table to a served model: one YAML file, every TFX component.",
    epilog="Exit codes: 0 pushed, or nothing new to push; 1 failure; 2 usage, config or data; 3 stopped by anomalies "
    "of the data, or a bound of `monitoring` is crossed; 4 not blessed.",
)

app.add_typer(cross_validation_app)
app.add_typer(tune_app)
app.add_typer(node_app)
app.add_typer(report_app)
app.add_typer(doctor_app)
for group in (predict_app, serve_app, version_app, monitor_app, mirror_app):
    app.add_typer(group)
app.add_typer(kubeflow_app)


def _print_versions(wanted: bool) -> None:
    if wanted:
        libraries = {name: version_of(name) for name in ("tfx", "tensorflow", "keras", "kfp")}
        found = ", ".join(f"{name} {version}" for name, version in libraries.items() if version)
        typer.echo(f"kubetfx {own_version()} ({found or 'light: without the libraries of the pipeline'})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of kubetfx and of what it computes with.",
        ),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    on: Annotated[
        Literal["local", "kfp-local"],
        typer.Option("--on", help="kfp-local: compile the package for Kubeflow Pipelines, and run its tasks here."),
    ] = "local",
    docker: Annotated[
        bool, typer.Option("--docker", help="With --on kfp-local: each task in its image, by Docker.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep running, and run again when the config, the data or your module changes."),
    ] = False,
    format: FormatOption = "human",
) -> None:
    """Run the pipeline on this machine; nodes whose inputs did not change are taken from the cache."""
    output = open_output(format)
    if docker and on != "kfp-local":
        raise UsageError(f"--docker requires --on kfp-local. Received: --docker and --on {on}.")
    if not watch:
        _run(config, overrides, output, on="kfp-docker" if docker else on)
        return
    if on != "local":
        raise UsageError(f"--watch requires --on local. Received: --watch and --on {on}.")

    from kubetfx.pipeline import watch as watching

    exit_code = watching.watch(
        config, overrides or (), output, run=lambda: _exit_code_of(lambda: _run(config, overrides, output))
    )
    raise typer.Exit(exit_code)


@app.command()
def watch(
    config: ConfigPath,
    once: Annotated[bool, typer.Option("--once", help="Decide once: for a CronJob, or your own scheduler.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Seconds between two decisions.")] = 60,
    command: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="COMMAND",
            help="Command to run instead of a run here, for example 'kubetfx submit pipeline.yaml'. Its exit code says "
            "how it ended.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Run the pipeline again when `retrain` says so: new data, drift, or a time that has passed."""
    output = open_output("human")
    pipeline_config = load(config, overrides)

    from kubetfx.pipeline import retrain_watch

    words = _words(command) if command else None
    if dry_run:
        decision = retrain_watch.decision_now(pipeline_config)
        output.say(f"{'Would run: ' if decision.retrain else ''}{decision.why}")
        return

    def run_it() -> int:
        return subprocess.call(words) if words else _exit_code_of(lambda: _run(config, overrides, output))

    if once:
        exit_code = retrain_watch.watch_once(pipeline_config, output, run=run_it)
    else:
        exit_code = retrain_watch.watch(config, overrides or (), output, run=run_it, seconds=seconds)
    raise typer.Exit(exit_code)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--run must be a command in shell syntax. Received: {command}, where: {error}.") from None
    if not words or shutil.which(words[0]) is None:
        raise UsageError(f"--run: the program does not exist. Received: {command!r}. Give its path.")
    return words


def _run(path: Path, overrides: list[str] | None, output: Output, *, on: str = "local") -> None:
    config = load(path, overrides)
    output.say(f"{config.name}: {path} in {shown(config.workspace_path)}")

    from kubetfx.pipeline import running

    interrupt_once()
    result = running.run(config, on=on, progress=output, command=command_line())
    check_blessed(result, config, output)
    print_result(result, config, output, config_path=path)


@app.command()
def init(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="A table's file, a folder of such files, or a glob; or a folder of images, one folder per class.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="For a table: the column to predict.", show_default=False)] = None,
    output_path: Annotated[Path, typer.Option("--output", help="File to write.")] = Path("pipeline.yaml"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="How the table is read, for example data.csv.delimiter=;"),
    ] = None,
    dvc: Annotated[
        bool, typer.Option("--dvc", help="Write dvc.yaml too; without DATA, beside the existing pipeline.yaml.")
    ] = False,
    format: FormatOption = "human",
) -> None:
    """Examine a table or images, and write a commented pipeline.yaml for them."""
    output = open_output(format)
    said: list[str] = []
    files: dict[str, str] = {}
    if data is not None:
        from kubetfx.pipeline import scaffold

        with naming_options({"path": "--output", "label": "--label"}):
            own = section_of(settings or (), "data")
            said += scaffold.write_config(data, label=label, path=output_path, settings=own)
        files["config"] = str(output_path)
    elif not dvc:
        raise UsageError("init needs data to look at. Received: no DATA. Name a table or a folder of images.")
    if dvc:
        from kubetfx.pipeline import dvc_scaffold

        dvc_path, notes = dvc_scaffold.write_dvc(output_path)
        said += notes
        files["dvc"] = shown(dvc_path)
    if format == "json":
        output.document({**files, "notes": said})
    for note in said:
        output.say(note)
    following = "dvc repro" if dvc else f"kubetfx run {quoted(output_path)}"
    output.say(f"Wrote {' and '.join(files.values())}. Next: {following}")


@app.command(rich_help_panel="Runs and reports")
def inspect(
    config: ConfigPath,
    output_path: Annotated[
        Path | None, typer.Option("--output", help="Folder to write. Default: in the workspace.", show_default=False)
    ] = None,
    mistakes: Annotated[int, typer.Option(min=0, help="Maximum number of images in the sheet of mistakes.")] = 64,
    heat_maps: Annotated[int, typer.Option(min=0, help="Images whose heat maps (Grad-CAM) are drawn.")] = 16,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Inspect a pushed image classifier: its mistakes, heat maps, and embeddings for TensorBoard."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx import run_record
    from kubetfx.components.push import push_directory

    versions = push_directory.versions(pipeline_config.push_path)
    rows = (record.examples() for record in run_record.read_all(pipeline_config.workspace_path))
    examples = next((path for path in rows if path and (path / TABLE_PROFILE).is_file()), None)
    if not versions or examples is None:
        raise UsageError(f"There is no pushed model, or no rows of a run. Make them: kubetfx run {quoted(config)}")
    folder = output_path or pipeline_config.workspace_path / "inspection"
    output.begin("Looking at the images")
    with (
        logged_to(pipeline_config.workspace_path / "inspect.log"),
        push_directory.version_here(pipeline_config.push_path, versions[-1]) as saved_model,
    ):
        from kubetfx.components.evaluation.image_gallery import write_gallery
        from kubetfx.serving.model_facts import read_facts

        facts = read_facts(saved_model)
        if facts is None or facts.image is None or not facts.classes:
            raise UsageError(
                f"The newest pushed model is not an image classifier. Received: version "
                f"{versions[-1]} "
                f"in {pipeline_config.push_path}. Push one: kubetfx run {quoted(config)}"
            )
        gallery = write_gallery(
            str(examples / split_folder(EVAL)), saved_model, folder, mistakes=mistakes, heat_maps=heat_maps
        )
    output.end()
    if format == "json":
        output.document({key: value if isinstance(value, int) else str(value) for key, value in vars(gallery).items()})
        return
    output.say(f"{gallery.mistakes:,} of {gallery.images:,} images of the evaluation split are misclassified.")
    output.say(f"  mistakes, the most certain first: {shown(gallery.mistakes_path)}")
    output.say(f"  what the network looked at:       {shown(gallery.heat_maps_path)}")
    output.say(f"  embeddings: tensorboard --logdir {quoted(gallery.projector_path)}")


@app.command()
def schema() -> None:
    """Print the JSON schema of pipeline.yaml, for editors."""
    Output("json").document(PipelineConfig.model_json_schema())


@app.command()
def requirements() -> None:
    """Print the libraries of the pipeline with their versions, for `pip install --no-deps -r`."""
    typer.echo(pipeline_libraries.requirements(), nl=False)


def main() -> None:
    """Run a command as the console script does, and end with its exit code."""
    # TFX and TensorFlow leave half a million objects. Python looks through them twice at its end, for what refers to
    # itself: seconds after the last line, and minutes where memory is short.
    atexit.register(gc.freeze)
    try:
        app()
    except Exception as error:
        sys.exit(_report(error))
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            message = "Interrupted. What was finished is kept; the same command goes on from there."
            current_output().error(message, exit_code=_INTERRUPTED)
        raise


def _exit_code_of(call: Callable[[], None]) -> int:
    """Call something as if it were a command, and return its exit code."""
    try:
        call()
    except KeyboardInterrupt:
        return _INTERRUPTED  # which the command that goes on says
    except Exception as error:
        return _report(error)
    return 0


def _report(error: Exception) -> int:
    """Print why a command fails, and return its exit code."""
    if isinstance(error, ModuleNotFoundError):
        error = pipeline_libraries.explained(error) or error
    if isinstance(error, KubetfxError):
        current_output().error(_explain(error), exit_code=error.exit_code, details=_details(error))
        return error.exit_code
    # A fault of kubetfx: the user needs the traceback to report it.
    message = f"{type(error).__name__}: {error}. This is a fault of kubetfx; please report it with this traceback."
    text = "".join(traceback.format_exception(error))
    current_output().error(f"{message}\n{text}", exit_code=1, details={"type": type(error).__name__})
    return 1


def _explain(error: KubetfxError) -> str:
    lines = [str(error)]
    if isinstance(error, NodeFailedError):
        again = shlex.join(command_line())
        lines += [f"  Its log: {shown(error.log_path)}", f"  To go on from there: {again}"]
    if error.report_path:
        lines.append(f"Report: {shown(error.report_path)}")
    return "\n".join(lines)


def _details(error: KubetfxError) -> dict[str, Any]:
    details: dict[str, Any] = {"type": type(error).__name__}
    if error.report_path:
        details["report"] = str(error.report_path)
    if isinstance(error, NodeFailedError):
        details |= {"node": error.node_id, "log": str(error.log_path)}
    if run := getattr(error, "run", None):
        details["run"] = run
    return details

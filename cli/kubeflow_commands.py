"""The commands around Kubeflow Pipelines.

Nothing heavy is imported before a command runs.
"""

import datetime
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, load, naming_options, open_output
from kubetfx.errors import UsageError

if TYPE_CHECKING:
    from kubetfx.cli.output import Output
    from kubetfx.config.pipeline import PipelineConfig
    from kubetfx.kubeflow.lint_rules.rule import Finding

app = typer.Typer()
_PANEL = "Kubeflow Pipelines"
_ARGUMENTS = {
    "host": "--host",
    "namespace": "--namespace",
    "token": "--token",
    "cookies": "--cookies",
    "ca_certificate": "--ca-cert FILE",
    "parameters": "--param",
}

_Source = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="pipeline.yaml, or a compiled package.", show_default=False)
]
_Host = Annotated[
    str | None,
    typer.Option(
        envvar="KF_PIPELINES_ENDPOINT",
        help="URL of Kubeflow Pipelines. Default: the one in the cluster around, or of kubectl's context.",
        show_default=False,
    ),
]
_Namespace = Annotated[
    str | None, typer.Option(help="Your profile's namespace, where KFP serves several users.", show_default=False)
]
_Token = Annotated[str | None, typer.Option(envvar="KUBETFX_KFP_TOKEN", help="A bearer token.", show_default=False)]
_Cookies = Annotated[
    str | None,
    typer.Option(envvar="KUBETFX_KFP_COOKIES", help="Cookies of a session in the browser.", show_default=False),
]
_CaCert = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Certificate of the authority that signed the server's certificate.",
        show_default=False,
    ),
]
_Experiment = Annotated[str, typer.Option(help="Experiment of the run; created if it does not exist.")]
_Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A run parameter of the package.", show_default=False),
]
_Run = Annotated[
    str, typer.Option("--run", metavar="ID", help="Id of the run: `submit` prints it in its link.", show_default=False)
]
_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its end.")]
_PollSeconds = Annotated[float, typer.Option(min=0.1, help="Seconds between two checks of the run.")]
_PipelineRoot = Annotated[
    str | None, typer.Option(help="Where artifacts go. Default: KFP's own root.", show_default=False)
]
_ServiceAccount = Annotated[
    str | None,
    typer.Option(
        help="Service account of the pods. Default: kubeflow.service_account, then KFP's own.", show_default=False
    ),
]


@app.command("compile", rich_help_panel=_PANEL)
def compile_command(  # noqa: PLR0913, PLR0917 - the options of a command
    config: ConfigPath,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", help="File to write. Default: package.yaml, or dag.py.", show_default=False),
    ] = None,
    target: Annotated[
        Literal["kubeflow", "airflow", "airflow-kubernetes"],
        typer.Option(help="airflow: a DAG whose tasks are processes beside Airflow; airflow-kubernetes: pods."),
    ] = "kubeflow",
    kubernetes_manifest: Annotated[
        bool, typer.Option("--kubernetes-manifest", help="Write Pipeline and PipelineVersion resources, for GitOps.")
    ] = False,
    retrain_gate: Annotated[
        bool,
        typer.Option("--retrain-gate", help="The first task decides whether `retrain` has a reason for the others."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing: only check the config and the paths that pods see, as far as that needs no TFX.",
        ),
    ] = False,
    schedule: Annotated[
        str | None, typer.Option(help="For Airflow: five fields as cron has them, or @daily.", show_default=False)
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(help="For Airflow: kubetfx where the tasks run. Default: this one.", show_default=False),
    ] = None,
    config_in_pods: Annotated[
        str | None,
        typer.Option(help="For airflow-kubernetes: pipeline.yaml as the pods see it.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Compile the pipeline to a package that open-source Kubeflow Pipelines v2 runs, or to a DAG for Airflow 3."""
    output = open_output(format)
    if check and output_path is not None:
        raise UsageError(f"--check writes nothing. Received: --output {output_path}. Leave one of them out.")
    if target != "kubeflow":
        given = {"--check": check, "--kubernetes-manifest": kubernetes_manifest, "--retrain-gate": retrain_gate}
        for name in (name for name, is_given in given.items() if is_given):
            raise UsageError(f"{name} requires --target kubeflow. Received: --target {target}.")
        if config_in_pods is not None and target == "airflow":
            raise UsageError(f"--config-in-pods requires --target airflow-kubernetes. Received: --target {target}.")
        _compile_dag(
            config,
            output_path or Path("dag.py"),
            output,
            schedule=schedule,
            command=command or _own_command(target),
            overrides=overrides or (),
            pods=target == "airflow-kubernetes",
            config_in_pods=config_in_pods,
        )
        return
    for name, value in {"schedule": schedule, "command": command, "config-in-pods": config_in_pods}.items():
        if value is not None:
            raise UsageError(f"--{name} is for Airflow. Received: --{name} {value}, without --target airflow.")
    if check:
        _check(config, load(config, overrides), output, format, retrain_gate=retrain_gate)
        return
    output_path = output_path or Path("package.yaml")
    _check_target(output_path, config=config)
    pipeline_config = load(config, overrides)

    from kubetfx.kubeflow import compilation
    from kubetfx.kubeflow.pod_paths import unseen_paths

    output.begin("Compiling")
    parameters = compilation.compile(
        pipeline_config, output_path, kubernetes_manifest=kubernetes_manifest, retrain_gate=retrain_gate
    )
    output.end()
    for line in unseen_paths(pipeline_config, retrain_gate=retrain_gate):
        output.say(line, style="yellow")
    if format == "json":
        output.document({"package": str(output_path), "parameters": parameters})
    output.say(f"Wrote {output_path}. Run parameters: {', '.join(parameters)}")


def _check(config: Path, loaded: "PipelineConfig", output: "Output", format: str, *, retrain_gate: bool) -> None:
    from kubetfx.kubeflow import compilation
    from kubetfx.kubeflow.pod_paths import unseen_paths

    compilation.check(loaded, retrain_gate=retrain_gate)
    warnings = unseen_paths(loaded, retrain_gate=retrain_gate)
    if format == "json":
        output.document({"config": str(config), "warnings": warnings})
    for line in warnings:
        output.say(line, style="yellow")
    output.say(f"{config}: nothing in it is wrong, as far as that can be told without TFX.")


def _own_command(target: str) -> str:
    """Return the kubetfx that this process is, for tasks beside Airflow; that of the image for pods."""
    script = Path(sys.argv[0])
    return str(script.absolute()) if target == "airflow" and script.name == "kubetfx" and script.exists() else "kubetfx"


def _compile_dag(config: Path, path: Path, output: "Output", **options: Any) -> None:
    output.begin("Compiling")

    from kubetfx.kubeflow.airflow_dag import airflow_dag

    warnings = airflow_dag(config, path, **options)
    output.end()
    for line in warnings:
        output.say(line, style="yellow")
    if output.format == "json":
        output.document({"dag": str(path), "warnings": warnings})
    output.say(f"Wrote {path}. Put it into Airflow's folder of DAGs.")


def _check_target(path: Path, *, config: Path) -> None:
    """Refuse to overwrite anything but a package."""
    from kubetfx.kubeflow.package_document import is_package

    if path.is_file() and path.stat().st_size and not is_package(path):
        what = "the config itself" if config.exists() and path.samefile(config) else "a file that is not a package"
        raise UsageError(
            f"--output would overwrite {what}. Received: --output {path}. Give another name, or move that file away."
        )


@app.command(rich_help_panel=_PANEL)
def lint(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE", help="A KFP v2 package.", show_default=False)],
    format: FormatOption = "human",
) -> None:
    """Report what open-source Kubeflow Pipelines would refuse or misread in any package.

    Exit codes: 0 nothing that KFP refuses (there may be warnings); 1 something that it refuses; 2 no package.
    """
    output = open_output(format)
    output.begin("Reading the package")

    from kubetfx.kubeflow.lint import lint as findings_of

    findings = findings_of(package)
    output.end()
    num_errors = sum(finding.severity == "error" for finding in findings)
    if format == "json":
        output.document(
            {
                "package": str(package),
                "errors": num_errors,
                "warnings": len(findings) - num_errors,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    _print_findings(findings, output, package=package)
    if num_errors:
        raise typer.Exit(1)


def _print_findings(findings: "list[Finding]", output: "Output", *, package: Path) -> None:
    if output.format == "human":
        for finding in findings:
            where = f"{package}:{finding.line}" if finding.line else str(package)
            place = f" {finding.place}" if finding.place else ""
            output.text(f"{where}: {finding.severity} [{finding.rule}]{place}\n  {finding.what}\n  {finding.remedy}")
    num_errors = sum(finding.severity == "error" for finding in findings)
    if not findings:
        output.say(f"{package}: nothing that open-source Kubeflow Pipelines refuses or misreads", style="green")
    else:
        output.say(f"{num_errors} that KFP refuses, {len(findings) - num_errors} that it misreads")


def _source(path: Path, overrides: list[str] | None) -> "PipelineConfig | Path":
    """Return a config, or the path of a compiled package."""
    from kubetfx.kubeflow.package_document import is_package

    if not is_package(path):
        return load(path, overrides)
    if overrides:
        raise UsageError(f"--set changes a config, and this is a package. Received: {path}. Use --param.")
    return path


@app.command("submit", rich_help_panel=_PANEL)
def submit_command(  # noqa: PLR0913, PLR0917 - the options of a command
    config: _Source,
    host: _Host = None,
    namespace: _Namespace = None,
    experiment: _Experiment = "Default",
    parameters: _Parameters = None,
    run_name: Annotated[
        str | None, typer.Option(help="Default: the pipeline's name and the time.", show_default=False)
    ] = None,
    pipeline_root: _PipelineRoot = None,
    service_account: _ServiceAccount = None,
    wait: _Wait = True,
    poll_seconds: _PollSeconds = 2.0,
    token: _Token = None,
    cookies: _Cookies = None,
    ca_cert: _CaCert = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Upload the pipeline to Kubeflow Pipelines, start a run, and follow it. Ctrl-C leaves the run running.

    Exit codes: 0 the run succeeded, or was started with --no-wait; 1 failure; 2 usage, config or package; 130 left.
    """
    output = open_output(format)
    output.begin("Loading")
    from kubetfx.kubeflow.kfp_connection import Connection
    from kubetfx.kubeflow.kfp_runs import RunOptions
    from kubetfx.kubeflow.submission import submit

    with naming_options(_ARGUMENTS):
        document = submit(
            _source(config, overrides),
            connection=Connection(host, namespace, token, cookies, ca_cert),
            parameters=parameters or (),
            options=RunOptions(experiment, {}, pipeline_root, service_account, run_name),
            wait=wait,
            poll_seconds=poll_seconds,
            progress=output,
        )
    if format == "json":
        output.document(document)
    else:
        output.text(document["link"])


@app.command("logs", rich_help_panel=_PANEL)
def logs_command(
    run: _Run,
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="Default: the task that failed.", show_default=False),
    ] = None,
    host: _Host = None,
    namespace: _Namespace = None,
    token: _Token = None,
    cookies: _Cookies = None,
    ca_cert: _CaCert = None,
    format: FormatOption = "human",
) -> None:
    """Print the log of a task of a run on Kubeflow Pipelines."""
    output = open_output(format)
    output.begin("Loading")
    from kubetfx.kubeflow.existing_runs import log_of
    from kubetfx.kubeflow.kfp_connection import Connection

    with naming_options(_ARGUMENTS):
        connection = Connection(host, namespace, token, cookies, ca_cert)
        log = log_of(run, task, connection=connection, report=output)
    if format == "json":
        output.document(asdict(log))
    else:
        output.say(f"{log.task}: {log.state}, pod {log.pod}")
        output.text(log.text.rstrip())


@app.command("retry", rich_help_panel=_PANEL)
def retry_command(  # noqa: PLR0913, PLR0917 - the options of a command
    run: _Run,
    host: _Host = None,
    namespace: _Namespace = None,
    wait: _Wait = True,
    poll_seconds: _PollSeconds = 2.0,
    token: _Token = None,
    cookies: _Cookies = None,
    ca_cert: _CaCert = None,
    format: FormatOption = "human",
) -> None:
    """Resume a failed run on Kubeflow Pipelines: succeeded tasks are kept, the others run again."""
    output = open_output(format)
    output.begin("Loading")
    from kubetfx.kubeflow.existing_runs import retry
    from kubetfx.kubeflow.kfp_connection import Connection

    with naming_options(_ARGUMENTS):
        connection = Connection(host, namespace, token, cookies, ca_cert)
        document = retry(run, connection=connection, wait=wait, poll_seconds=poll_seconds, report=output)
    if format == "json":
        output.document(document)
    else:
        output.text(document["link"])


def _time(option: str, text: str | None) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(
            f"{option} takes a point in time in ISO 8601. Received: {text!r}. Try 2026-12-01T06:00:00Z."
        ) from None


@app.command("schedule", rich_help_panel=_PANEL)
def schedule_command(  # noqa: PLR0913, PLR0917 - the options of a command
    config: _Source,
    cron: Annotated[
        str,
        typer.Option(help="Minute, hour, day, month, weekday, as cron has them; or six fields with seconds in front."),
    ],
    host: _Host = None,
    namespace: _Namespace = None,
    experiment: _Experiment = "Default",
    parameters: _Parameters = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the recurring run. Default: the pipeline's name.", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="The first run is not before: 2026-12-01T06:00:00Z.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option(help="The last run is not after.", show_default=False)] = None,
    catch_up: Annotated[bool, typer.Option("--catch-up", help="Start runs that were missed, one by one.")] = False,
    max_concurrency: Annotated[int, typer.Option(min=1, max=10, help="Runs at the same time.")] = 1,
    pipeline_root: _PipelineRoot = None,
    service_account: _ServiceAccount = None,
    token: _Token = None,
    cookies: _Cookies = None,
    ca_cert: _CaCert = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Run the pipeline on Kubeflow Pipelines repeatedly; the same name replaces the schedule before it."""
    output = open_output(format)
    output.begin("Loading")
    from kubetfx.kubeflow.kfp_connection import Connection
    from kubetfx.kubeflow.kfp_runs import RunOptions
    from kubetfx.kubeflow.recurring_runs import Times
    from kubetfx.kubeflow.submission import schedule

    with naming_options(_ARGUMENTS):
        made = schedule(
            _source(config, overrides),
            Times(cron, _time("--start", start), _time("--end", end), catch_up, max_concurrency),
            connection=Connection(host, namespace, token, cookies, ca_cert),
            parameters=parameters or (),
            options=RunOptions(experiment, {}, pipeline_root, service_account, name),
            progress=output,
        )
    if format == "json":
        output.document(asdict(made))
    else:
        disabled = "" if made.is_enabled else "; it is disabled, as it was: enable it in the UI"
        output.say(f"Schedule {made.name} {made.change}: {made.cron}{disabled}", style="green")
        output.text(made.link)

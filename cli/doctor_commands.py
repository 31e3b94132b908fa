"""`kubetfx doctor`.

Nothing heavy is imported before the command runs.
"""

from dataclasses import asdict

import typer

from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, load, open_output, shown
from kubetfx.errors import EngineError

app = typer.Typer()


@app.command()
def doctor(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """Check that this machine and the engine of section `beam` work: three rows go through it."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.pipeline.doctor import examine

    checks = examine(pipeline_config, progress=output)
    if format == "json":
        output.document(
            {"healthy": all(check.passed for check in checks), "checks": [asdict(check) for check in checks]}
        )
        if not all(check.passed for check in checks):
            raise typer.Exit(EngineError.exit_code)
        return
    for check in checks:
        if check.passed:
            output.say(f"{check.name:<10} {check.detail}")
    failed = [check for check in checks if not check.passed]
    if failed:
        log = pipeline_config.workspace_path / "doctor.log"
        more = f"\nWhat the engine said: {shown(log)}" if log.is_file() and failed[-1].name == "Engine" else ""
        raise EngineError("\n".join(f"{check.name}: {check.detail}" for check in failed) + more)
    output.say("Everything works.")

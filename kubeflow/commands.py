"""The commands around Kubeflow Pipelines.

Nothing heavy is imported before a command runs.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.command import FormatOption, open_output

if TYPE_CHECKING:
    from kubeflow.lint import Finding
    from pipeline.output import Output

app = typer.Typer()

PackagePath = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A KFP v2 package.", show_default=False)]


@app.command()
def lint(package: PackagePath, format: FormatOption = "human") -> None:
    """Say what open-source Kubeflow Pipelines would refuse or misread in a package, whoever made it.

    Exit codes: 0 nothing that KFP refuses (there may be warnings); 1 something that it refuses; 2 no package.
    """
    output = open_output(format)
    output.begin("Reading the package")

    from kubeflow.lint import lint as findings_of

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

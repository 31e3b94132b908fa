"""Finds what open-source Kubeflow Pipelines would refuse or misread in a package, before it is submitted.

The rules are in kubeflow/lint_rules/, a module per subject. They follow what KFP's API server, its compiler to Argo
Workflows, its driver and its launcher do (version 2.17).
"""

from pathlib import Path

from kubetfx.kubeflow.lint_rules import (
    containers,
    dataflow,
    documents,
    loops,
    placeholders,
    platforms,
    policies,
    resources,
    tasks,
    values,
)
from kubetfx.kubeflow.lint_rules.rule import Finding, Rule
from kubetfx.kubeflow.package_document import read_package

_MODULES = (documents, platforms, containers, resources, tasks, policies, dataflow, values, loops, placeholders)
RULES = tuple(found for module in _MODULES for found in vars(module).values() if isinstance(found, Rule))


def lint(path: str | Path) -> list[Finding]:
    """Find what open-source Kubeflow Pipelines would refuse or misread in a package, whoever made it.

    Args:
        path: The path of the package: YAML of one or two documents, a JSON job spec of TFX, or a PipelineVersion
            resource.

    Returns:
        The faults in the order of the file. A malformed package is not searched for others.

    Raises:
        UsageError: the file cannot be read, or is not a package.

    Example:
        >>> import kubetfx
        >>> kubetfx.lint("package.yaml")
        []
    """
    package = read_package(Path(path))
    findings = list(documents.malformed.findings(package))
    findings = findings or [finding for rule in RULES for finding in rule.findings(package)]
    return sorted(findings, key=lambda finding: (finding.line or 0, finding.severity))

"""A rule: one fault to look for in a package, and what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from kubetfx.kubeflow.package_document import Package, Place, dotted

_Severity = Literal["error", "warning"]

Fault = tuple[Place, str]
"""Where it is, and what happens there."""
_Check = Callable[[Package], Iterator[Fault]]


@dataclass(frozen=True)
class Finding:
    """One fault of a package."""

    rule: str
    severity: _Severity
    """`error`: KFP refuses it, or the task fails. `warning`: KFP does something else than the package says."""
    place: str
    """Dotted path into the document."""
    line: int | None
    """None in a file of one line."""
    what: str
    """What happens there."""
    remedy: str


@dataclass(frozen=True)
class Rule:
    """A fault to look for."""

    id: str
    severity: _Severity
    check: _Check
    remedy: str

    def findings(self, package: Package) -> Iterator[Finding]:
        """Look for the fault in a package.

        Args:
            package: to look through.

        Yields:
            A finding per place that has the fault.
        """
        for place, what in self.check(package):
            yield Finding(self.id, self.severity, dotted(place), package.line(place), what, self.remedy)


def rule(id: str, severity: _Severity, remedy: str) -> Callable[[_Check], Rule]:
    """Return a decorator that makes a rule of a check; kubeflow/lint.py finds it in its module.

    Args:
        id: The id of the rule.
        severity: `error` or `warning`.
        remedy: what to do about the fault.
    """
    return lambda check: Rule(id, severity, check, remedy)

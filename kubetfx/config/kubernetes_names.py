"""Names and labels that Kubernetes accepts: what its API server would refuse at the first pod is refused here."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

_RESOURCE = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = rf"({_RESOURCE}/)?{_PART}"
_VARIABLE = r"[A-Za-z_.-][A-Za-z0-9_.-]*"


def _check_resource_name(name: str) -> str:
    what = "the name of a Kubernetes resource, of at most 253 small letters, digits, '-' and '.',"
    _check([name], rf"(?=.{{1,253}}$){_RESOURCE}", what, "kubetfx-data")
    return name


def _check_label_keys(labels: dict[str, str]) -> dict[str, str]:
    _check(labels, _KEY, "the key of a label or an annotation", "team or example.org/team")
    return labels


def _check_label_values(labels: dict[str, str]) -> dict[str, str]:
    what = "for a label, a value of at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends,"
    _check(labels.values(), f"({_PART})?", what, "birds or v1.2")
    return labels


def _check_variables(environment: dict[str, str]) -> dict[str, str]:
    _check(environment, _VARIABLE, "the name of an environment variable", "AWS_REGION")
    return environment


def _check_variables_by_key(variables: dict[str, str]) -> dict[str, str]:
    _check_variables(dict.fromkeys(variables.values(), ""))
    return variables


def _check(values: Iterable[str], pattern: str, what: str, example: str) -> None:
    for value in values:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{what} is needed, such as {example}. Received: {value!r}")


ResourceName = Annotated[str, AfterValidator(_check_resource_name)]
Annotations = Annotated[dict[str, str], AfterValidator(_check_label_keys)]
Labels = Annotated[dict[str, str], AfterValidator(_check_label_keys), AfterValidator(_check_label_values)]
Environment = Annotated[dict[str, str], AfterValidator(_check_variables)]
EnvironmentByKey = Annotated[dict[str, str], AfterValidator(_check_variables_by_key)]


def is_volume_name(name: str) -> bool:
    """Return whether a resource's name can be the name of a volume.

    Args:
        name: The name of a resource.
    """
    return len(name) <= 63 and "." not in name

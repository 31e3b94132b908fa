"""Names and labels that Kubernetes accepts: what its API server would refuse at the first pod is refused here."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

_RESOURCE = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = rf"({_RESOURCE}/)?{_PART}"
_IMAGE = (
    r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?/|\[[0-9A-Fa-f:]+\](:[0-9]+)?/)?"
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[A-Za-z][A-Za-z0-9+._-]*:[0-9A-Fa-f]{32,})?"
)
"""The grammar of github.com/distribution/reference, which container runtimes parse names of images with."""
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


def _check_values_of_variables(environment: dict[str, str]) -> dict[str, str]:
    for name, value in environment.items():
        if "\0" in value:
            raise ValueError(f"an environment variable holds no NUL character. Received: {name} with {value!r}")
    return environment


def _check_mount_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"an absolute path inside the container is needed. Received: {path!r}")
    if ":" in path or "\0" in path:
        raise ValueError(f"a path at which something is mounted has no ':' and no NUL. Received: {path!r}")
    return path


def _check_sub_path(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(
            f"a folder inside of the volume is needed, without '/' in front and without '..'. Received: {path!r}"
        )
    return path


def _check_image(name: str) -> str:
    what = "a container image, with its registry if it is not Docker Hub's and a tag or a digest,"
    _check([name], _IMAGE, what, "registry.example.org/team/kubetfx:1.0")
    return name


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
Environment = Annotated[dict[str, str], AfterValidator(_check_variables), AfterValidator(_check_values_of_variables)]
MountPath = Annotated[str, AfterValidator(_check_mount_path)]
SubPath = Annotated[str, AfterValidator(_check_sub_path)]
Image = Annotated[str, AfterValidator(_check_image)]
EnvironmentByKey = Annotated[dict[str, str], AfterValidator(_check_variables_by_key)]


def is_volume_name(name: str) -> bool:
    """Return whether a resource's name can be the name of a volume.

    Args:
        name: The name of a resource.
    """
    return len(name) <= 63 and "." not in name

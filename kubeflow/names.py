"""Names that Kubeflow Pipelines takes: of tasks, and of what goes into them and comes out."""

import hashlib
import keyword
import re
from collections.abc import Sequence

MAX_NAME = 80
"""Characters of a task's name. Argo Workflows takes 128, and what is made of it is longer: `resolve-NAME-2-driver`."""


def identifier(name: str) -> str:
    """A name as Kubeflow Pipelines and Python take it: of letters, digits and underscores, a letter first."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII).lower().strip("_") or "node"
    if keyword.iskeyword(text):
        return f"{text}_"
    return f"n_{text}" if text[0].isdigit() else text


def snake_case(name: str) -> str:
    """`SchemaGen` as `schema_gen`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def slot_name(source: tuple[str, str]) -> str:
    """Name of an input that several nodes may read: what makes it, and under which key."""
    node_id, key = source
    return identifier(f"{snake_case(node_id)}_{key}")


def task_name(ids: Sequence[str]) -> str:
    """A name that Kubeflow Pipelines takes, made of the ids of the task's nodes."""
    name = identifier("_".join(snake_case(node_id) for node_id in ids))
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:MAX_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken; it is taken from now on."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate

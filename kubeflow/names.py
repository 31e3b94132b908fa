"""Names that Kubeflow Pipelines takes: of tasks, and of what goes into them and comes out."""

import hashlib
import keyword
import re
from collections.abc import Sequence

_MAX_NAME = 80
"""Characters of a task's name. Argo Workflows takes 128, for names that are made of it: `resolve-NAME-2-driver`."""


def identifier(name: str) -> str:
    """Return a name that Kubeflow Pipelines and Python take: letters, digits and underscores, a letter first.

    Args:
        name: any text.
    """
    text = re.sub(r"\W", "_", name, flags=re.ASCII).lower().strip("_") or "node"
    if keyword.iskeyword(text):
        return f"{text}_"
    return f"n_{text}" if text[0].isdigit() else text


def snake_case(name: str) -> str:
    """Return `schema_gen` for `SchemaGen`.

    Args:
        name: in CamelCase.
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def slot_name(source: tuple[str, str]) -> str:
    """Return the name of an input that several nodes may read.

    Args:
        source: id of the node that makes it, and its output key there.
    """
    node_id, key = source
    return identifier(f"{snake_case(node_id)}_{key}")


def task_name(ids: Sequence[str]) -> str:
    """Return a name of a task that Kubeflow Pipelines takes.

    Args:
        ids: of the task's nodes.
    """
    name = identifier("_".join(snake_case(node_id) for node_id in ids))
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:_MAX_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def unique(name: str, taken: set[str]) -> str:
    """Return a name, with a number behind it if it is taken.

    Args:
        name: that is wanted.
        taken: names in use, to which the result is added.
    """
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate

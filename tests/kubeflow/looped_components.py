"""Function components for pipelines with loops, in a module, as a container that imports them needs it."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts


@component
def Rows(number: Parameter[int], examples: OutputArtifact[standard_artifacts.Examples]) -> None:
    Path(examples.uri, "rows").write_text("\n".join(map(str, range(number))))


@component
def Fold(
    examples: InputArtifact[standard_artifacts.Examples],
    fold: Parameter[int],
    folds: Parameter[int],
    model: OutputArtifact[standard_artifacts.Model],
) -> None:
    """The rows of one fold; fails at fold 13."""
    if fold == 13:
        raise RuntimeError("unlucky")
    rows = Path(examples.uri, "rows").read_text().split("\n")
    Path(model.uri, "rows").write_text(" ".join(rows[fold::folds]))
    model.set_int_custom_property("fold", fold)


@component
def Count(model: InputArtifact[standard_artifacts.Model]) -> OutputDict(text=str):  # type: ignore[valid-type]
    return {"text": f"{model.get_int_custom_property('fold')}: {len(Path(model.uri, 'rows').read_text().split())}"}


@component
def Gather(
    texts: InputArtifact[list[standard_artifacts.String]],  # type: ignore[valid-type]
    gathered: OutputArtifact[standard_artifacts.String],
) -> None:
    """All texts, in the order in which they arrive."""
    for text in texts:
        text.read()
    gathered.value = "; ".join(text.value for text in texts)


@component
def Beside(
    one: InputArtifact[standard_artifacts.String],
    all: InputArtifact[list[standard_artifacts.String]],  # type: ignore[valid-type]
    gathered: OutputArtifact[standard_artifacts.String],
) -> None:
    """One text, and the number of all."""
    one.read()
    gathered.value = f"{one.value} of {len(all)}"

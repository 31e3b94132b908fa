"""The task of the peers of benchmarks/pipeline.py: a table, a network, and how to train it. All get the same."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

TRAIN, VALIDATION, EVAL = 7, 1, 2
"""Tenths of the rows: to train on, to watch the loss on, to score on."""


@dataclass(frozen=True)
class Work:
    """A classification of a table in one CSV file."""

    name: str
    folder: str
    """Folder of the CSV file, and of nothing else."""
    label: str
    classes: list[str]
    """Sorted."""
    numeric: list[str]
    categorical: list[str]
    hidden_units: list[int]
    embedding_size: int
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    metrics: list[str]
    """As `evaluation.metrics` of pipeline.yaml names them; the first is the score."""
    slices: list[str]

    def write(self, path: Path) -> None:
        """Write it for a peer to read."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def read(path: Path) -> Work:
    """Read what `Work.write` wrote."""
    return Work(**json.loads(path.read_text(encoding="utf-8")))

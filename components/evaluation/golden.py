"""Golden rows: rows of the evaluation split, each with the prediction that a server must return for it.

The prediction uses the training path: the graph of the Transform component, then the bare network. The preprocessing
that was exported for serving is not involved, so a server's answers reveal any difference between the two
(training/serving skew).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kubetfx.arrays import Array
from kubetfx.artifacts import GOLDEN_ROWS, PIXELS

if TYPE_CHECKING:
    from kubetfx.serving.model_facts import ModelFacts


@dataclass(frozen=True)
class GoldenRows:
    """Rows and the expected predictions, in the same order."""

    rows: Sequence[Mapping[str, Any]]
    classes: list[str]
    """Classes; empty for a regression."""
    outputs: list[list[float]]
    """Probabilities of the classes, or the one value."""

    def difference(self, answers: Sequence[Mapping[str, Any]], *, tolerance: float) -> str | None:
        """Return a description of the first wrong answer, or None if all are right.

        Args:
            answers: The server's answers to `rows`: `probabilities`, `classes` and `label`, or `value`.
            tolerance: The largest difference of a probability; for a value, as a share of it or of the values' standard
                deviation, whichever is larger.
        """
        if len(answers) != len(self.rows):
            return f"{len(answers)} answers to {len(self.rows)} rows"
        for number, (expected, answer) in enumerate(zip(self.outputs, answers, strict=True), start=1):
            reason = self._why_not(np.array(expected), answer, tolerance)
            if reason:
                row = json.dumps(self.rows[number - 1], ensure_ascii=False)
                return f"row {number} of {len(self.rows)}, {reason}. The row: {row}"
        return None

    def _why_not(self, expected: Array, answer: Mapping[str, Any], tolerance: float) -> str | None:
        name = "probabilities" if self.classes else "value"
        if name not in answer or (self.classes and list(answer.get("classes", ())) != self.classes):
            return f"the answer has other fields or classes than the model: {', '.join(sorted(answer))}"
        received = np.atleast_1d(np.array(answer[name], np.float64))
        if received.shape != expected.shape:
            return f"{name} has {received.size} numbers, and must have {expected.size}"
        equal = (received == expected) | (np.isnan(received) & np.isnan(expected))
        off_by = np.where(equal, 0, np.abs(received - expected) / self._scale(expected))
        worst = int(np.argmax(np.nan_to_num(off_by, nan=np.inf)))
        if off_by[worst] <= tolerance:
            return self._wrong_label(expected, answer, tolerance)
        of = f" of {self.classes[worst]!r}" if self.classes else ""
        return (
            f"the {'probability' if self.classes else name}{of} is {received[worst]:.6g}, and offline it is "
            f"{expected[worst]:.6g}: they differ by {off_by[worst]:.2g}, more than the tolerance {tolerance:g}"
        )

    def _scale(self, expected: Array) -> Array | float:
        if self.classes:
            return 1.0
        return np.maximum(np.abs(expected), np.std(self.outputs)) or 1.0

    def _wrong_label(self, expected: Array, answer: Mapping[str, Any], tolerance: float) -> str | None:
        if not self.classes:
            return None
        likely = [name for name, p in zip(self.classes, expected, strict=True) if p >= expected.max() - 2 * tolerance]
        if answer.get("label") in likely:
            return None
        return f"the label is {answer.get('label')!r}, and offline it is {likely[0]!r}"


def write(golden_rows: GoldenRows, folder: Path) -> None:
    """Write golden rows into an evaluation artifact.

    Args:
        golden_rows: the rows.
        folder: The folder of the artifact.
    """
    text = json.dumps(asdict(golden_rows), ensure_ascii=False, indent=1)  # NaN, which Python and TF Serving accept
    (folder / GOLDEN_ROWS).write_text(text, encoding="utf-8")


def parse(text: str) -> GoldenRows:
    """Return golden rows from their text.

    Args:
        text: The text of the file.
    """
    return GoldenRows(**json.loads(text))


def read(folder: Path) -> GoldenRows:
    """Return the golden rows of an evaluation artifact.

    Args:
        folder: The folder of the artifact.
    """
    return parse((folder / GOLDEN_ROWS).read_text(encoding="utf-8"))


MOST_ROWS = 10_000
"""Maximum number of golden rows."""


def number_of_rows(split: str, *, at_least: int, share: float) -> int:
    """Return the number of golden rows for a split.

    Args:
        split: The folder of the evaluation split.
        at_least: The minimum, if the split has that many rows.
        share: The share of the rows of the split.
    """
    from kubetfx.models.examples import count_rows, files_in

    total = count_rows(files_in(split)) if share else 0
    return min(max(at_least, math.ceil(share * total)), MOST_ROWS)


def predict_golden_rows(split: str, *, number: int, transform_graph: str, saved_model: Path) -> GoldenRows:
    """Return rows of a split with their offline predictions.

    Args:
        split: The folder of the evaluation split.
        number: The maximum number of rows; the first ones are taken.
        transform_graph: The folder of the artifact.
        saved_model: The exported model, of which only the bare network is used.
    """
    import tensorflow_transform as tft

    from kubetfx.models.examples import files_in, first_rows
    from kubetfx.models.export import NETWORK
    from kubetfx.models.preprocessing import Preprocessing
    from kubetfx.models.raw_rows import raw_rows
    from kubetfx.serving.model_facts import network_arguments, read_facts
    from kubetfx.serving.saved_model import SavedModel

    facts = read_facts(saved_model)
    assert facts is not None  # the Trainer of this run exported it
    preprocess = Preprocessing(tft.TFTransformOutput(transform_graph), without=facts.image_columns)
    block = first_rows(files_in(split), number, [*preprocess.inputs.columns, *facts.image_columns])
    assert block is not None  # ExampleGen refuses an empty split
    features = preprocess(preprocess.inputs.pack(block))
    for name in facts.image_columns:
        features[PIXELS] = _pixels(block.column(name).to_pylist(), facts)
    arguments = network_arguments(features, facts.network_inputs)
    with SavedModel(saved_model, only=(NETWORK,)) as model:
        outputs = model.signature(NETWORK)({name: tensor.numpy() for name, tensor in arguments.items()})["outputs"]
    strings = [name for name, dtype in facts.columns.items() if dtype == "string"]
    rows = raw_rows(
        block, inputs=facts.inputs, strings=strings, images=facts.image_columns, separators=facts.separators
    )
    return GoldenRows(_served(rows, facts), list(facts.classes), outputs.astype(float).tolist())


def _pixels(contents: Sequence[bytes], facts: "ModelFacts") -> Any:
    """Return pictures as the network takes them, decoded as in training."""
    import tensorflow as tf

    from kubetfx.models.columns.image.pixels import Pixels

    return Pixels.of_facts(facts).features(tf.constant(contents))[PIXELS]


def _served(rows: Sequence[Mapping[str, Any]], facts: "ModelFacts") -> list[dict[str, Any]]:
    """Return rows as a client sends them."""
    from kubetfx.tables.json_bytes import to_json

    return [
        {facts.served_name(name): to_json(value) if isinstance(value, bytes) else value for name, value in row.items()}
        for row in rows
    ]

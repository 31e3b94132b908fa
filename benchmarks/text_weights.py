"""What smaller weights of a model of text cost: `serving.weights` on the real sentences of examples/reviews.

    python -m benchmarks.text_weights [--write]

Each encoder is trained with `float16` and with `int8`, on the splits of the example, where no film is in two of them.
The Trainer compares the answers on the validation rows before and after the weights are rounded, and the Evaluator
judges the rounded model on the evaluation rows. --write puts the figures into benchmarks/README.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measured_process import run_process
from benchmarks.readme import machine, write_section
from examples.reviews import prepare

KUBETFX = Path(sys.executable).parent / "kubetfx"
ENCODERS, KINDS = ("bag", "fasttext"), ("float16", "int8")


@dataclass(frozen=True)
class Rounded:
    """What rounding did to a model."""

    encoder: str
    kind: str
    bytes: Sequence[int]
    """What a run says of the weights before and after."""
    difference: float
    """Between two probabilities for a validation row, at most."""
    losses: Sequence[float]
    """Cross entropy on the validation rows before and after."""
    accuracy: float
    """On the evaluation rows, after."""


def measure(encoder: str, kind: str, workspace: Path) -> Rounded:
    """Run the example with rounded weights.

    Args:
        encoder: `features.text_encoder.kind`.
        kind: `serving.weights`.
        workspace: for the run; others take its examples from the cache.

    Returns:
        What the run says.
    """
    keys = (
        *(f"workspace={workspace}", f"features.text_encoder.kind={encoder}", f"serving.weights={kind}"),
        "model.kind=network",
        "evaluation.thresholds={accuracy: {at_least: 0, better_than_baseline: false}}",  # any model's score counts
    )
    options = [word for key in keys for word in ("--set", key)]
    config = prepare.TABLE_PATH.parent.parent / "pipeline.yaml"
    document = json.loads(run_process([str(KUBETFX), "run", str(config), *options, "--format", "json"]).stdout)
    newest = max(workspace.glob("artifacts/Trainer/model/*/history.json"), key=lambda path: path.stat().st_mtime)
    said = json.loads(newest.read_text(encoding="utf-8"))["stored_weights"]
    return Rounded(encoder, kind, said["bytes"], said["difference"], said["losses"], document["metrics"]["accuracy"])


def report(found: Sequence[Rounded]) -> str:
    """Return the figures in Markdown.

    Args:
        found: by `measure`.
    """
    lines = [
        machine(),
        "",
        "| encoder | weights | kB, instead of | largest difference of a probability | cross entropy on `validation`, "
        "instead of | accuracy on `eval` |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        before, after = (f"{number / 1000:,.0f}" for number in one.bytes)
        exact, rounded = one.losses
        lines.append(
            f"| {one.encoder} | {one.kind} | {after}, {before} | {one.difference:.1e} | {rounded:.5f}, {exact:.5f} | "
            f"{one.accuracy:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure every encoder with every kind of weights."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text_weights", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the figures into benchmarks/README.md")
    arguments = parser.parse_args()
    prepare.main()
    with tempfile.TemporaryDirectory(prefix="kubetfx-text-weights-") as folder:
        found = []
        for encoder in ENCODERS:
            for kind in KINDS:
                found.append(measure(encoder, kind, Path(folder)))
                print(found[-1], file=sys.stderr, flush=True)
    text = report(found)
    print(text)
    if arguments.write:
        write_section("text weights", text)


if __name__ == "__main__":
    main()

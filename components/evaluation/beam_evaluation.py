"""An evaluation by Beam: the accumulators of evaluation.py in one combine."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import BytesCoder

from kubetfx.components.evaluation.evaluation import Evaluation, Outcome, Request, States
from kubetfx.components.evaluation.evaluation_rows import Block


def evaluate_by_beam(
    request: Request, files: Sequence[str], *, make_pipeline: Callable[[], beam.Pipeline], folder: Path
) -> Outcome:
    """Evaluate in one Beam pipeline: each shard of the split is read, answered and added up by a worker.

    Args:
        request: what to evaluate.
        files: of the evaluation split.
        make_pipeline: makes the pipeline.
        folder: that workers can write to; what they leave is removed.
    """
    path = folder / "outcome.pickle"
    with make_pipeline() as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(sorted(files))
            | "Spread" >> beam.Reshuffle()
            | "Blocks" >> beam.ParDo(_Answer(request))
            | "Metrics" >> beam.CombineGlobally(_Combine(request))
            | "Pickled" >> beam.Map(pickle.dumps)
            | "Written"
            >> beam.io.WriteToText(
                str(path), num_shards=1, shard_name_template="", append_trailing_newlines=False, coder=BytesCoder()
            )
        )
    outcome: Outcome = pickle.loads(path.read_bytes())
    path.unlink()
    return outcome


class _Answer(beam.DoFn):
    """A shard to its blocks."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def setup(self) -> None:
        """Load the models, once a worker."""
        self._models = self._request.load_models()

    def process(self, file: str) -> Iterator[Block]:
        """The blocks of a shard."""
        yield from self._models.blocks([file])


class _Combine(beam.CombineFn):
    """An Evaluation, as Beam has it."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @cached_property
    def _evaluation(self) -> Evaluation:
        """Made on the worker, where the user's own metrics are found again."""
        return Evaluation(self._request)

    def create_accumulator(self) -> States:
        """The state of no rows."""
        return self._evaluation.create()

    def add_input(self, states: States, block: Block) -> States:
        """The state with a block."""
        return self._evaluation.add_block(states, block)

    def merge_accumulators(self, many: Iterable[States]) -> States:
        """The state of all."""
        merged = self._evaluation.create()
        for states in many:
            merged = self._evaluation.merge(merged, states)
        return merged

    def extract_output(self, states: States) -> Outcome:
        """What the rows come to."""
        return self._evaluation.result(states)

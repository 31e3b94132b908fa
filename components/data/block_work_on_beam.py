"""Work on the examples by Beam, block by block: see block_work.py."""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from kubetfx.components.data import beam_mode
from kubetfx.components.data.block_work import BlockWork, Item, Result
from kubetfx.engine.shared_places import scratch_in
from kubetfx.storage import locate, patiently

if TYPE_CHECKING:  # workers import this module, and some of them have no TFX
    from tfx.dsl.components.base import base_beam_executor


def run_on_beam(
    work: BlockWork[Item, Any, Any, Result],
    items: Sequence[Item],
    executor: "base_beam_executor.BaseBeamExecutor",
    folder: Path,
) -> Result:
    """Execute the work in a Beam pipeline.

    Args:
        work: The computation.
        items: what `BlockWork.blocks` reads; workers share them out.
        executor: Makes the pipeline.
        folder: A folder that this process and the workers can write to; their files are removed.

    Returns:
        The work's result.
    """
    if not items:
        return work.result(work.create())
    beam_mode.prepare_workers(executor._beam_pipeline_args)
    place = locate(scratch_in(folder)) / f".{type(work).__name__}.pickle"
    with executor._make_beam_pipeline() as pipeline:
        _ = (
            pipeline
            | "Items" >> beam.Create(list(items), reshuffle=len(items) > 1)
            | "Add up" >> beam.ParDo(_AddUp(work))
            | "Merge" >> beam.CombineGlobally(_Merge(work)).without_defaults()
            | "Leave" >> beam.Map(_leave, str(place))
        )
    result: Result = pickle.loads(place.read_bytes())
    place.unlink()
    return result


class _AddUp(beam.DoFn):
    """Turns an item into the state of its rows."""

    def __init__(self, work: BlockWork[Any, Any, Any, Any]) -> None:
        self._work = work

    def setup(self) -> None:
        self._work.setup()

    def process(self, item: Any) -> Iterator[Any]:
        yield self._work.state_of(item)


class _Merge(beam.CombineFn):
    """Merges states into the result."""

    def __init__(self, work: BlockWork[Any, Any, Any, Any]) -> None:
        self._work = work

    def create_accumulator(self) -> Any:
        return self._work.create()

    def add_input(self, accumulator: Any, state: Any) -> Any:
        return self._work.merge(accumulator, state)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return self._work.merged(accumulators)

    def extract_output(self, accumulator: Any) -> Any:
        return self._work.result(accumulator)


def _leave(result: Any, path: str) -> None:
    with patiently():
        locate(path).write_bytes(pickle.dumps(result))

"""Work on the examples, block by block: by threads of this process, or by Beam.

Statistics, the analyses of Transform and an evaluation are each a `BlockWork`: a state that the blocks of a row group
are added to. Either way makes the state of each row group by itself and merges those, so there is no second computation
that could say something else. In this process they are merged in order: the result does not depend on the number of
threads.
"""

import functools
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import apache_beam as beam
from tfx.dsl.components.base import base_beam_executor

from kubetfx.components.data import beam_mode
from kubetfx.models.examples import read_ahead

Item = TypeVar("Item")
Block = TypeVar("Block")
State = TypeVar("State")
Result = TypeVar("Result")


class BlockWork(ABC, Generic[Item, Block, State, Result]):
    """Something to be found out about rows. It can be pickled until `setup` was called, and so can its states.

    Several threads call it at once, each with items and states of its own. A state that was handed to `add_block` or
    `merge` may have been changed, and is not used again.
    """

    def setup(self) -> None:
        """Load what `blocks` needs. It is called once per process, before it."""

    @abstractmethod
    def blocks(self, item: Item) -> Iterable[Block]:
        """Read some of the rows.

        Args:
            item: what to read, such as a row group.

        Returns:
            Its rows, as this work needs them.
        """

    @abstractmethod
    def create(self) -> State:
        """The state of no rows."""

    @abstractmethod
    def add_block(self, state: State, block: Block) -> State:
        """Add rows.

        Args:
            state: without them.
            block: the rows.

        Returns:
            The state with them.
        """

    @abstractmethod
    def merge(self, first: State, second: State) -> State:
        """Put two states together.

        Args:
            first: of some rows.
            second: of others.

        Returns:
            The state of the rows of both.
        """

    @abstractmethod
    def result(self, state: State) -> Result:
        """Finish.

        Args:
            state: of all rows.

        Returns:
            What was found out.
        """

    def state_of(self, item: Item) -> State:
        """Add up the blocks of an item.

        Args:
            item: see `blocks`.

        Returns:
            The state of its rows.
        """
        return functools.reduce(self.add_block, self.blocks(item), self.create())

    def merged(self, states: Iterable[State]) -> State:
        """Put any number of states together.

        Args:
            states: of different rows.

        Returns:
            The state of all of them.
        """
        return functools.reduce(self.merge, states, self.create())


def run(
    work: BlockWork[Item, Any, Any, Result],
    items: Sequence[Item],
    *,
    executor: base_beam_executor.BaseBeamExecutor,
    folder: Path,
) -> Result:
    """Do the work where the arguments of an executor for Beam say: in this process, or on Beam.

    Args:
        work: what is to be found out.
        items: what `BlockWork.blocks` reads; they can be pickled.
        executor: of the node, with Beam's command line.
        folder: that this process and Beam's workers can write to; what they leave is removed.

    Returns:
        The work's result.
    """
    threads = beam_mode.num_threads(executor._beam_pipeline_args)
    return _run_on_beam(work, items, executor, folder) if threads is None else run_here(work, items, threads=threads)


def run_here(work: BlockWork[Item, Any, Any, Result], items: Iterable[Item], *, threads: int) -> Result:
    """Do the work in this process.

    Args:
        work: what is to be found out.
        items: what `BlockWork.blocks` reads.
        threads: that read and add up, each an item at a time.

    Returns:
        The work's result.
    """
    work.setup()
    states = read_ahead((functools.partial(work.state_of, item) for item in items), threads=threads)
    return work.result(work.merged(states))


def _run_on_beam(
    work: BlockWork[Item, Any, Any, Result],
    items: Sequence[Item],
    executor: base_beam_executor.BaseBeamExecutor,
    folder: Path,
) -> Result:
    if not items:
        return work.result(work.create())
    beam_mode.prepare_workers(executor._beam_pipeline_args)
    path = folder / f".{type(work).__name__}.pickle"
    with executor._make_beam_pipeline() as pipeline:
        _ = (
            pipeline
            | "Items" >> beam.Create(list(items), reshuffle=len(items) > 1)
            | "Add up" >> beam.ParDo(_AddUp(work))
            | "Merge" >> beam.CombineGlobally(_Merge(work)).without_defaults()
            | "Leave" >> beam.Map(_leave, str(path))
        )
    result = cast(Result, pickle.loads(path.read_bytes()))
    path.unlink()
    return result


class _AddUp(beam.DoFn):
    """An item to the state of its rows."""

    def __init__(self, work: BlockWork[Any, Any, Any, Any]) -> None:
        self._work = work

    def setup(self) -> None:
        self._work.setup()

    def process(self, item: Any) -> Iterator[Any]:
        yield self._work.state_of(item)


class _Merge(beam.CombineFn):
    """States to the result."""

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
    Path(path).write_bytes(pickle.dumps(result))

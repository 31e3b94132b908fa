"""Work on the examples, block by block: by threads of this process, or by Beam.

Statistics, the analyses of Transform and an evaluation are each a `BlockWork`: a state to which the blocks of a row
group are added. Both ways compute a state per row group and merge these, so that they cannot give different results. In
this process states are merged in order, so that the result does not depend on the number of threads.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kubetfx.components.data import beam_mode
from kubetfx.models.examples import read_ahead

if TYPE_CHECKING:
    from tfx.dsl.components.base import base_beam_executor

Item = TypeVar("Item")
Block = TypeVar("Block")
State = TypeVar("State")
Result = TypeVar("Result")

Run = Callable[["BlockWork[Any, Any, Any, Any]", Sequence[Any]], Any]
"""Executes work on some items, by threads or by Beam, and returns its result."""


class BlockWork(ABC, Generic[Item, Block, State, Result]):
    """A computation over rows.

    It can be pickled until `setup` is called, and so can its states. Several threads call it at once, each with its own
    items and states. `add_block` and `merge` may change the states that they are given, which must not be used again.
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
        """Return the state of no rows."""

    @abstractmethod
    def add_block(self, state: State, block: Block) -> State:
        """Add rows.

        Args:
            state: The state without the rows.
            block: the rows.

        Returns:
            The state with them.
        """

    @abstractmethod
    def merge(self, first: State, second: State) -> State:
        """Merge two states.

        Args:
            first: The state of some rows.
            second: The state of other rows.

        Returns:
            The state of the rows of both.
        """

    @abstractmethod
    def result(self, state: State) -> Result:
        """Compute the result.

        Args:
            state: The state of all rows.

        Returns:
            The result of the work.
        """

    def state_of(self, item: Item) -> State:
        """Add up the blocks of an item.

        Args:
            item: see `blocks`.

        Returns:
            The state of its rows.
        """
        return functools.reduce(self.add_block, self.blocks(item), self.create())

    def compact(self, state: State) -> State:
        """Make a state smaller, before it is kept; this one leaves it as it is.

        Args:
            state: of the rows of an item.

        Returns:
            A state that stands for the same rows, if need be with the error that the work allows itself.
        """
        return state

    def compact_state_of(self, item: Item) -> State:
        """Add up the blocks of an item, as `state_of` does.

        Args:
            item: see `blocks`.

        Returns:
            The compact state of its rows.
        """
        return self.compact(self.state_of(item))

    def merged(self, states: Iterable[State]) -> State:
        """Merge any number of states.

        Args:
            states: The states of different rows.

        Returns:
            The state of all of them.
        """
        return functools.reduce(self.merge, states, self.create())


@dataclass(frozen=True)
class Each(BlockWork[tuple[int, Any], dict[int, Any], dict[int, Any], list[Any]]):
    """Applies a function to each item; items are numbered, and the results are in their order."""

    do: Callable[[Any], Any]
    """It can be pickled."""
    prepare: Callable[[], None] | None = None
    """Called once per process, before the function; it can be pickled."""

    def setup(self) -> None:
        """Prepare."""
        if self.prepare is not None:
            self.prepare()

    def blocks(self, item: tuple[int, Any]) -> list[dict[int, Any]]:
        """Call the function."""
        number, own = item
        return [{number: self.do(own)}]

    def create(self) -> dict[int, Any]:
        """Return the state of no items."""
        return {}

    def add_block(self, state: dict[int, Any], block: dict[int, Any]) -> dict[int, Any]:
        """Return the items of both."""
        state.update(block)
        return state

    def merge(self, first: dict[int, Any], second: dict[int, Any]) -> dict[int, Any]:
        """Return the items of both."""
        return self.add_block(first, second)

    def result(self, state: dict[int, Any]) -> list[Any]:
        """Return what the function returned, in the order of the items."""
        return [state[number] for number in sorted(state)]


def run(
    work: BlockWork[Item, Any, Any, Result],
    items: Sequence[Item],
    *,
    executor: "base_beam_executor.BaseBeamExecutor",
    folder: Path,
    max_threads: int = beam_mode.MAX_THREADS,
) -> Result:
    """Execute the work in this process or on Beam, as the arguments of an executor say.

    Args:
        work: The computation.
        items: The items that `BlockWork.blocks` reads; they can be pickled.
        executor: The executor of the node, with Beam's command line.
        folder: A folder that this process and Beam's workers can write to; their files are removed.
        max_threads: Maximum number of threads of this process; 1 for work in the interpreter, in which threads wait for
            each other.

    Returns:
        The work's result.
    """
    threads = beam_mode.num_threads(executor._beam_pipeline_args)
    if threads is not None:
        return run_here(work, items, threads=min(threads, max_threads))
    from kubetfx.components.data.block_work_on_beam import run_on_beam  # Beam takes half a second to import

    return run_on_beam(work, items, executor, folder)


def run_in_threads(work: BlockWork[Item, Any, Any, Result], items: Sequence[Item]) -> Result:
    """Execute the work in this process, on all cores.

    Args:
        work: The computation.
        items: what `BlockWork.blocks` reads.

    Returns:
        The work's result.
    """
    return run_here(work, items, threads=beam_mode.num_threads(()) or 1)


def run_here(work: BlockWork[Item, Any, Any, Result], items: Iterable[Item], *, threads: int) -> Result:
    """Execute the work in this process.

    Args:
        work: The computation.
        items: what `BlockWork.blocks` reads.
        threads: The number of threads, each of which reads and adds up one item at a time.

    Returns:
        The work's result.
    """
    work.setup()
    states = read_ahead((functools.partial(work.state_of, item) for item in items), threads=threads)
    return work.result(work.merged(states))

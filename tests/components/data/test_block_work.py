"""A loop, threads and Beam come to the same."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tfx.dsl.components.base import base_beam_executor

from kubetfx.components.data.block_work import BlockWork, Each, run

LOOP, THREADS = ["--direct_num_workers=1"], ["--direct_num_workers=4"]
BEAM = ["--direct_running_mode=in_memory", "--direct_num_workers=2"]
EVERY_WAY = pytest.mark.parametrize("arguments", [LOOP, THREADS, BEAM], ids=["loop", "threads", "beam"])


class Executor(base_beam_executor.BaseBeamExecutor):
    """Of a node, with Beam's arguments."""

    def Do(self, *_: Any) -> None:
        """Nothing: it is only asked for a pipeline."""


class Numbers(BlockWork[int, int, tuple[list[int], int], list[int]]):
    """Lists the numbers below each item; and says how many states were merged into the result."""

    def setup(self) -> None:
        self.is_ready = True

    def blocks(self, item: int) -> Iterator[int]:
        assert self.is_ready
        if item < 0:
            raise ValueError(f"Received: {item}.")
        time.sleep(0.01 * (item == 3))  # the threads finish in another order
        yield from range(item)

    def create(self) -> tuple[list[int], int]:
        return [], 0

    def add_block(self, state: tuple[list[int], int], block: int) -> tuple[list[int], int]:
        return [*state[0], block], 1

    def merge(self, first: tuple[list[int], int], second: tuple[list[int], int]) -> tuple[list[int], int]:
        return first[0] + second[0], first[1] + second[1]

    def result(self, state: tuple[list[int], int]) -> tuple[list[int], int]:
        return state


def executor(arguments: list[str]) -> Executor:
    return Executor(Executor.Context(beam_pipeline_args=arguments))


@EVERY_WAY
def test_state_of_each_item_is_made_once_and_all_are_merged(tmp_path, arguments):
    found, num_states = run(Numbers(), [3, 1, 2, 0, 5], executor=executor(arguments), folder=tmp_path)

    expected = [0, 1, 2, 0, 0, 1, 0, 1, 2, 3, 4]
    assert (sorted(found) if arguments == BEAM else found) == (sorted(expected) if arguments == BEAM else expected)
    assert num_states == 4
    assert not list(tmp_path.iterdir())


@EVERY_WAY
def test_of_no_items_the_result_is_that_of_no_rows(tmp_path, arguments):
    assert run(Numbers(), [], executor=executor(arguments), folder=tmp_path) == ([], 0)


@EVERY_WAY
def test_error_in_a_block_is_raised(tmp_path, arguments):
    with pytest.raises(Exception, match="Received: -1"):
        run(Numbers(), [2, -1], executor=executor(arguments), folder=tmp_path)


@EVERY_WAY
def test_each_item_has_its_own_result_in_the_order_of_the_items(tmp_path, arguments):
    words = ["four", "a", "", "to"]
    assert run(Each(len), list(enumerate(words)), executor=executor(arguments), folder=tmp_path) == [4, 1, 0, 2]
    assert run(Each(len), [], executor=executor(arguments), folder=tmp_path) == []

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kubetfx.errors import UsageError
from kubetfx.serving import inference
from kubetfx.serving.batching import BatchingParameters, Scheduler, SessionThreads, read_batching_parameters_file
from kubetfx.serving.inference import GraphCall
from kubetfx.serving.saved_model import SavedModel
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code, ServingError


class CountingModel(SavedModel):
    """A SavedModel that notes the rows of each call, and waits at a gate first."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.rows: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Semaphore(0)

    def run(self, feeds: Any, arrays: Any, fetches: Any) -> Any:
        self.waiting.release()
        assert self.gate.wait(20)
        self.rows.append(len(arrays[0]))
        return super().run(feeds, arrays, fetches)


@pytest.fixture(scope="module")
def loaded(kinds: Path) -> Iterator[CountingModel]:
    model = CountingModel(kinds)
    yield model
    model.close()


@pytest.fixture
def version(loaded: CountingModel) -> ServedVersion:
    loaded.rows.clear()
    loaded.gate.set()
    loaded.waiting = threading.Semaphore(0)
    return ServedVersion("kinds", 1, loaded)


class Bench:
    """A scheduler in a running loop."""

    def __init__(self, version: ServedVersion, parameters: BatchingParameters | None, threads: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.version = version
        self.threads = SessionThreads(threads, self.loop)
        self.scheduler = Scheduler(self.threads, parameters, self.loop)
        self.done = 0

    def submit(self, values: list[float], signature: str = "floats", name: str = "x", dtype: Any = np.float32) -> Any:
        call, _ = inference.predict_call(
            self.version.model.signatures[signature], {name: np.array(values, dtype=dtype)}
        )
        self.version.acquire()
        return self.scheduler.submit(self.version, call, self.finished)

    def finished(self) -> None:
        self.done += 1


def run(
    version: ServedVersion, parameters: BatchingParameters | None, scenario: Callable[[Bench], Any], *, threads: int = 1
) -> Any:
    async def main() -> Any:
        bench = Bench(version, parameters, threads)
        try:
            return await asyncio.wait_for(scenario(bench), 30)
        finally:
            bench.threads.close()
            await asyncio.sleep(0)  # deliver what came last

    return asyncio.run(main())


def test_requests_share_a_call_and_each_gets_its_own_rows(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        return await asyncio.gather(*[bench.submit([float(index)] * (index + 1)) for index in range(5)])

    results = run(version, BatchingParameters(), scenario)
    assert [result[0].tolist() for result in results] == [[float(index)] * (index + 1) for index in range(5)]
    assert loaded.rows == [15]


def test_without_parameters_each_request_has_its_own_call(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        return await asyncio.gather(*[bench.submit([1.0]) for _ in range(5)])

    run(version, None, scenario)
    assert loaded.rows == [1] * 5


def test_batch_is_no_larger_than_its_limit(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        await asyncio.gather(*[bench.submit([1.0, 2.0]) for _ in range(5)])

    run(version, BatchingParameters(max_batch_size=5), scenario)
    assert loaded.rows == [4, 4, 2]


def test_allowed_sizes_are_filled_up(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        return await asyncio.gather(*[bench.submit([float(index)]) for index in range(5)])

    results = run(version, BatchingParameters(max_batch_size=8, allowed_batch_sizes=(2, 8)), scenario)
    assert [result[0].tolist() for result in results] == [[float(index)] for index in range(5)]
    assert loaded.rows == [8]


def test_batch_waits_for_its_timeout(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        first = bench.submit([1.0])
        await asyncio.sleep(0.01)
        second = bench.submit([2.0])
        await asyncio.gather(first, second)

    run(version, BatchingParameters(batch_timeout_micros=100_000), scenario)
    assert loaded.rows == [2]


def test_full_batch_does_not_wait_for_its_timeout(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        await asyncio.gather(bench.submit([1.0]), bench.submit([2.0]))

    run(version, BatchingParameters(max_batch_size=2, batch_timeout_micros=60_000_000), scenario)
    assert loaded.rows == [2]


def test_full_queue_refuses(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> None:
        loaded.gate.clear()
        running = bench.submit([0.0])
        await bench.loop.run_in_executor(None, loaded.waiting.acquire)
        queued = [bench.submit([1.0]) for _ in range(4)]
        with pytest.raises(ServingError, match="queue to which this task was submitted is full") as caught:
            bench.submit([1.0])
        assert caught.value.code is Code.UNAVAILABLE
        loaded.gate.set()
        await asyncio.gather(running, *queued)
        assert bench.done == 6

    run(version, BatchingParameters(max_batch_size=2, max_enqueued_batches=2, num_batch_threads=1), scenario)


def test_request_of_more_rows_than_a_batch_is_refused_or_run_alone(
    version: ServedVersion, loaded: CountingModel
) -> None:
    async def scenario(bench: Bench) -> Any:
        return await bench.submit([1.0] * 3)

    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        run(version, BatchingParameters(max_batch_size=2), scenario)
    run(version, BatchingParameters(max_batch_size=2, enable_large_batch_splitting=True), scenario)
    assert loaded.rows == [3]


def test_one_bad_request_does_not_spoil_its_batch(version: ServedVersion) -> None:
    async def scenario(bench: Bench) -> Any:
        calls = [bench.submit([index], "lookup", "index", np.int32) for index in (0, 7, 2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = run(version, BatchingParameters(), scenario)
    assert (first[0].tolist(), third[0].tolist()) == ([10.0], [30.0])
    assert "indices[0] = 7 is not in [0, 3)" in second.message


def test_requests_of_other_shapes_are_batched_apart(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> Any:
        return await asyncio.gather(bench.submit([1.0]), bench.submit([[1.0, 2.0]]), bench.submit([2.0]))

    results = run(version, BatchingParameters(), scenario)
    assert [result[0].tolist() for result in results] == [[1.0], [[1.0, 2.0]], [2.0]]
    assert sorted(loaded.rows) == [1, 2]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.float32(1)], "must have at least one dimension"),
        ([np.zeros(1), np.zeros(2)], "must have equal 0th-dimension size"),
    ],
)
def test_tensors_without_a_common_batch_are_refused(version: ServedVersion, arrays: Any, message: str) -> None:
    async def scenario(bench: Bench) -> Any:
        call = GraphCall(("a", "b"), [np.asarray(array) for array in arrays], ())
        version.acquire()
        return await bench.scheduler.submit(version, call, bench.finished)

    with pytest.raises(ServingError, match=message):
        run(version, BatchingParameters(), scenario)


def test_output_without_batch_fails_alone_and_together_alike(version: ServedVersion) -> None:
    async def scenario(bench: Bench) -> Any:
        return await asyncio.gather(bench.submit([1.0], "total"), bench.submit([2.0], "total"))

    assert [result[0] for result in run(version, BatchingParameters(), scenario)] == [1.0, 2.0]


def test_cancelled_request_is_not_run(version: ServedVersion, loaded: CountingModel) -> None:
    async def scenario(bench: Bench) -> None:
        loaded.gate.clear()
        running = bench.submit([0.0])
        await bench.loop.run_in_executor(None, loaded.waiting.acquire)
        cancelled, wanted = bench.submit([1.0]), bench.submit([2.0])
        cancelled.cancel()
        loaded.gate.set()
        await running
        assert (await wanted)[0].tolist() == [2.0]
        while bench.done < 3:
            await asyncio.sleep(0)

    run(version, None, scenario)
    assert loaded.rows == [1, 1]


def test_version_is_let_go_of_after_every_outcome(version: ServedVersion) -> None:
    async def scenario(bench: Bench) -> None:
        calls = [bench.submit([index], "lookup", "index", np.int32) for index in (0, 7)]
        await asyncio.gather(*calls, return_exceptions=True)

    run(version, BatchingParameters(), scenario)
    run(version, None, scenario)
    assert version._users == 0


def test_parameters_file_is_tensorflow_servings(tmp_path: Path) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(
        "max_batch_size { value: 128 }\nbatch_timeout_micros { value: 0 }\nmax_enqueued_batches { value: 1000000 }\n"
        "num_batch_threads { value: 8 }\nthread_pool_name { value: 'pool' }\nallowed_batch_sizes: 16\n"
        "allowed_batch_sizes: 128\nenable_large_batch_splitting { value: true }  # a comment\n"
    )
    assert read_batching_parameters_file(file) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
        allowed_batch_sizes=(16, 128),
        enable_large_batch_splitting=True,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 128", "not a BatchingParameters in protobuf's text format"),
        ("batch_size { value: 1 }", "not a BatchingParameters in protobuf's text format"),
        ("max_batch_size { value: 0 }", "must be 1 or more"),
        ("allowed_batch_sizes: 4", "must increase and end with max_batch_size"),
    ],
)
def test_wrong_parameters_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match="Received: ") as caught:
        read_batching_parameters_file(file)
    assert message in str(caught.value)


def test_missing_parameters_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path / "none")):
        read_batching_parameters_file(tmp_path / "none")

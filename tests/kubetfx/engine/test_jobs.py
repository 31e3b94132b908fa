"""What people read of a job that failed on an engine."""

import socket

import pytest

from kubetfx.engine.jobs import Job
from kubetfx.errors import WorkerError, root_cause

PANIC = (
    "Pipeline job-005 failed in state FAILED: panic in stage.Execute bundle processing goroutine: {}, stage: "
    '&{{ID:stage-002 transforms:[ref_13 ref_14] exe:<nil>}},stackTrace:\n"goroutine 12 [running]:\nmain.go:3'
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("bundle inst002 stage-002 failed: SDK worker disconnected: worker", None),
        (
            PANIC.format("send on closed channel"),
            "the engine could not send stage-002 to its worker, which is gone (send on closed channel)",
        ),
        (
            PANIC.format("unexpected number, want 1: {}"),
            "the engine failed in stage-002: unexpected number, want 1: {}",
        ),
    ],
)
def test_prisms_dumps_are_left_out_of_what_people_read(message: str, words: str | None) -> None:
    class Failed:
        def wait_until_finish(self) -> None:
            raise RuntimeError(message)

    with socket.create_server(("127.0.0.1", 0)) as service:
        address = f"127.0.0.1:{service.getsockname()[1]}"
        pool = ["--environment_type=EXTERNAL", f"--environment_config={address}"]
        job = Job(["--runner=PortableRunner", f"--job_endpoint={address}", *pool], patience=1)
        with pytest.raises(WorkerError) as failed:
            job.wait(Failed())
    expected = message if words is None else f"Pipeline job-005 failed in state FAILED: {words}"
    assert root_cause(failed.value) == f"WorkerError: {expected}"

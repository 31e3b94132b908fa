"""A real job service: the one that Beam has in Python, which needs nothing installed."""

from collections.abc import Iterator

import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer


@pytest.fixture(scope="module")
def job_service() -> Iterator[str]:
    """Its host and port."""
    servicer = LocalJobServicer()
    port = servicer.start_grpc_server()
    yield f"localhost:{port}"
    servicer.stop()

"""The container of one task."""

import pytest

from kubetfx.errors import CompileError
from tests.kubeflow.taxi_pipeline import Fail, small


@pytest.mark.parametrize(
    ("letter", "fits"), [("x", 100_000), ("<", 15_000), ('"', 25_000)], ids=["plain", "as Go escapes it", "quotes"]
)
def test_task_whose_argument_is_too_long_to_start_a_process_is_refused(compiled, letter, fits):
    compiled(small("p", Fail(reason=letter * fits)))

    message = r"Fail: what the task does is too long .* bytes, more than 122,880; the longest are Fail\.reason with "
    with pytest.raises(CompileError, match=message):
        compiled(small("p", Fail(reason=letter * fits * 3)))

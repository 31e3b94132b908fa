"""Numbers of bytes in words."""

import pytest

from kubetfx.byte_counts import readable


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [
        (0, "0 bytes"),
        (1_023, "1023 bytes"),
        (1_024, "1.0 KiB"),
        (10_239, "10 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (512 * 2**20, "512 MiB"),
        (2**30, "1.0 GiB"),
        (24 * 2**30, "24 GiB"),
        (5_000 * 2**30, "5,000 GiB"),
    ],
)
def test_numbers_have_the_unit_that_keeps_them_short(num_bytes: int, words: str) -> None:
    assert readable(num_bytes) == words

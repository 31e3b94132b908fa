"""Which version a log of requests is about."""

from collections import Counter

from kubetfx.serving.log_files import LogFiles

NOON = 1_796_040_000
"""The beginning of a minute, in seconds since 1970."""


def test_version_is_the_one_of_the_newest_seconds_also_where_another_had_more_requests_in_the_same_minute():
    seen = Counter(
        {(1, NOON + second): 9 for second in range(30)} | {(2, NOON + second): 1 for second in range(30, 55)}
    )
    log = LogFiles(seen=seen, newest=NOON + 54)

    assert log.version(within_seconds=20) == 2
    assert log.version(within_seconds=60) == 1
    assert log.versions == [2, 1]

"""Which spans a run takes, as the config says it."""

import datetime
from typing import Any

import pytest

from kubetfx.config.loading import as_config
from kubetfx.errors import ConfigError
from kubetfx.tables.window import Window

DATED = "events/{YYYY}-{MM}-{DD}/*.csv"


def data_of(**fields: Any) -> Any:
    return as_config({"name": "events", "data": {"path": DATED, "label": "y", **fields}}).data


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({}, Window(1)),
        ({"spans": 28}, Window(28)),
        ({"from": "2026-11-01"}, Window(None, datetime.date(2026, 11, 1))),
        ({"to": datetime.date(2026, 11, 1)}, Window(None, None, datetime.date(2026, 11, 1))),
        ({"from": 3, "to": 5}, Window(None, 3, 5)),
        ({"done_file": "_SUCCESS"}, Window(1, done_file="_SUCCESS")),
    ],
)
def test_window_means_spans(written, meant):
    assert data_of(window=written).window.meant == meant


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"window": {"spans": 0}}, r"data\.window\.spans"),
        (
            {"window": {"spans": 2, "from": "2026-11-01"}},
            r"a window has either `spans`, or `from` and `to`\. Received: "
            r"both",
        ),
        (
            {"window": {"from": "2026-11-02", "to": "2026-11-01"}},
            r"a window must end after it begins\. Received: from 2026",
        ),
        ({"window": {"from": 3, "to": "2026-11-01"}}, r"dates or both be numbers\. Received: 3, 2026-11-01"),
        ({"window": {"form": 3}}, r"unknown key\. Did you mean 'from'\? Known here: spans, from, to, done_file"),
        ({"window": {"done_file": "a/b"}}, r"data\.window\.done_file"),
        (
            {"window": {"spans": 2}, "path": "a.csv"},
            r"data\.window needs a table in spans.* Received: data\.path: .*a\.csv",
        ),
        ({"splits": {"eval": "newest"}, "path": "a.csv"}, r"data\.splits\.eval: newest needs a table in spans"),
        ({"splits": {"eval": "newest"}}, r"leaves no span for training.* Received: data\.window: nothing\. Say"),
        ({"splits": {"eval": "newest", "by": "time"}}, r"`eval: newest` already says how rows are split"),
        (
            {"splits": {"eval": "newest", "train": 0.5}, "window": {"spans": 2}},
            r"must add up to 1\. Received: train: 0\.5",
        ),
    ],
)
def test_window_that_means_nothing_is_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        data_of(**fields)


def test_shares_of_the_other_spans_are_those_that_were_given():
    splits = data_of(window={"spans": 2}, splits={"eval": "newest", "train": 0.75, "validation": 0.25}).splits

    assert splits.by == "span"
    assert splits.fractions["train"] / splits.fractions["validation"] == pytest.approx(3)

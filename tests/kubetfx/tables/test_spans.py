"""Which spans there are, and which of them a window has."""

import datetime
from pathlib import Path

import pytest

from kubetfx.errors import DataError
from kubetfx.tables.spans import Chosen, choose, exactly
from kubetfx.tables.window import Window

DAYS = "day={YYYY}-{MM}-{DD}/*.csv"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x,y\n1,a\n")


def labels(chosen: Chosen) -> list[str]:
    return [span.label for span in chosen.spans]


def days(folder: Path, *numbers: int) -> None:
    write(folder, *(f"day=2026-02-{number:02d}/part.csv" for number in numbers))


def test_newest_span_is_taken_without_a_window(tmp_path):
    days(tmp_path, 27, 28)
    write(tmp_path, "day=2026-03-01/a.csv", "day=2026-03-01/b.csv", "day=2026-03-01/.c.csv", "day=2026-03-01/_d.csv")

    (span,) = choose(tmp_path, DAYS, Window()).spans

    assert span.label == "2026-03-01"
    assert span.number == (datetime.date(2026, 3, 1) - datetime.date(1970, 1, 1)).days
    assert span.pattern == "day=2026-03-01/*.csv"
    assert span.folder == "day=2026-03-01"
    assert [Path(path).name for path in span.paths] == ["a.csv", "b.csv"]


def test_window_is_the_last_so_many_days_and_a_gap_is_said(tmp_path):
    days(tmp_path, 20, 24, 25, 27, 28)

    chosen = choose(tmp_path, DAYS, Window(5))

    assert labels(chosen) == ["2026-02-24", "2026-02-25", "2026-02-27", "2026-02-28"]
    assert chosen.notes == ("The window from 2026-02-24 to 2026-02-28 has 4 spans; without files are: 2026-02-26.",)
    assert choose(tmp_path, DAYS, Window(2)).notes == ()


def test_history_that_is_shorter_than_the_window_has_no_gap(tmp_path):
    days(tmp_path, 27, 28)

    chosen = choose(tmp_path, DAYS, Window(28))

    assert labels(chosen) == ["2026-02-27", "2026-02-28"]
    assert chosen.notes == ()


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        (datetime.date(2026, 2, 26), datetime.date(2026, 2, 27), [26, 27]),
        (None, datetime.date(2026, 2, 26), [25, 26]),
        (datetime.date(2026, 2, 27), None, [27, 28]),
        (datetime.date(2020, 1, 1), datetime.date(2030, 1, 1), [25, 26, 27, 28]),
    ],
)
def test_window_has_bounds_that_belong_to_it(tmp_path, first, last, wanted):
    days(tmp_path, 25, 26, 27, 28)

    chosen = choose(tmp_path, DAYS, Window(None, first, last))

    assert labels(chosen) == [f"2026-02-{day}" for day in wanted]
    assert chosen.notes == ()


def test_newest_version_of_each_span_counts(tmp_path):
    write(tmp_path, *(f"span-{span}/v{version}.csv" for span, version in [(9, 1), (10, 2), (10, 10), (10, 9)]))

    spans = choose(tmp_path, "span-{SPAN}/v{VERSION}.csv", Window(2)).spans

    assert [(span.number, span.version, span.pattern) for span in spans] == [
        (9, 1, "span-9/v1.csv"),
        (10, 10, "span-10/v10.csv"),
    ]


def test_width_of_a_number_is_kept(tmp_path):
    write(tmp_path, "007.csv", "12.csv", "0013.csv")

    (span,) = choose(tmp_path, "{SPAN:3}.csv", Window(9)).spans

    assert (span.number, span.label, span.pattern, span.folder) == (7, "7", "007.csv", None)


def test_span_of_two_spellings_is_refused(tmp_path):
    write(tmp_path, "s7/a.csv", "s07/a.csv")

    with pytest.raises(DataError, match=r"the span 7 twice\. Received: s07/\*\.csv, s7/\*\.csv"):
        choose(tmp_path, "s{SPAN}/*.csv", Window())


def test_name_that_is_no_date_is_left_out_and_said(tmp_path):
    days(tmp_path, 27, 30)
    write(tmp_path, "day=2026-02-28.tmp/part.csv")

    chosen = choose(tmp_path, DAYS, Window())

    assert labels(chosen) == ["2026-02-27"]
    assert chosen.notes == ("Left out, since their names have no date that exists: day=2026-02-30/part.csv.",)


def test_span_without_its_mark_is_left_out_and_said(tmp_path):
    days(tmp_path, 25, 26, 27)
    for day in (25, 26):
        (tmp_path / f"day=2026-02-{day}" / "_SUCCESS").touch()

    chosen = choose(tmp_path, DAYS, Window(2, done_file="_SUCCESS"))

    assert labels(chosen) == ["2026-02-25", "2026-02-26"]
    assert chosen.notes == ("Left out, since there is no _SUCCESS yet: 2026-02-27.",)


def test_mark_needs_a_folder_of_its_own(tmp_path):
    write(tmp_path, "events-2026-02-27.csv")

    with pytest.raises(DataError, match=r"the spans have no folders of their own\. Received: events-2026-02-27\.csv"):
        choose(tmp_path, "events-{YYYY}-{MM}-{DD}.csv", Window(done_file="_SUCCESS"))


def test_nothing_that_is_whole_is_said_with_the_reason(tmp_path):
    days(tmp_path, 27)

    with pytest.raises(DataError, match=r"matches no span\. Received: .*\. Left out, since there is no _SUCCESS yet"):
        choose(tmp_path, DAYS, Window(done_file="_SUCCESS"))


def test_window_without_a_span_says_which_there_are(tmp_path):
    days(tmp_path, 25, 28)

    with pytest.raises(
        DataError, match=r"Received: 2027-01-01 to 2027-01-31, where there are 2026-02-25 to 2026-02-28"
    ):
        choose(tmp_path, DAYS, Window(None, datetime.date(2027, 1, 1), datetime.date(2027, 1, 31)))


@pytest.mark.parametrize(
    ("pattern", "bound"), [(DAYS, 5), ("day={SPAN}/*.csv", datetime.date(2026, 2, 27))], ids=["number", "date"]
)
def test_bounds_are_what_the_spans_are_named_by(tmp_path, pattern, bound):
    days(tmp_path, 27)
    write(tmp_path, "day=5/part.csv")

    with pytest.raises(DataError, match=r"`from` and `to` are .*, as data\.path has them\. Received"):
        choose(tmp_path, pattern, Window(None, bound, None))


@pytest.mark.parametrize(
    "pattern", ["{YYYY}-{MM}/*.csv", "{SPAN}-{YYYY}-{MM}-{DD}.csv", "{SPAN}/{SPAN}.csv", "{VERSION}/a.csv", "{DAY}.csv"]
)
def test_placeholders_that_name_no_span_are_refused(tmp_path, pattern):
    with pytest.raises(DataError, match=r"spans are named by \{SPAN\}, or by \{YYYY\}, \{MM\} and \{DD\}"):
        choose(tmp_path, pattern, Window())


def test_spans_that_were_chosen_are_found_again_whatever_arrived(tmp_path):
    days(tmp_path, 26, 27)
    chosen = choose(tmp_path, DAYS, Window(2))
    days(tmp_path, 28)

    assert exactly(tmp_path, DAYS, [span.pattern for span in chosen.spans]) == chosen.spans
    (tmp_path / "day=2026-02-26" / "part.csv").unlink()
    with pytest.raises(DataError, match=r"Spans have gone since the run began\. Received: day=2026-02-26/\*\.csv"):
        exactly(tmp_path, DAYS, [span.pattern for span in chosen.spans])


def test_spans_are_found_in_a_bucket(bucket):
    for day in (26, 27):
        (bucket / f"day=2026-02-{day}/part.csv").write_bytes(b"x,y\n1,a\n")
        (bucket / f"day=2026-02-{day}/_SUCCESS").write_bytes(b"")

    chosen = choose(bucket, DAYS, Window(2, done_file="_SUCCESS"))

    assert labels(chosen) == ["2026-02-26", "2026-02-27"]
    assert chosen.spans[0].paths == (f"{bucket}/day=2026-02-26/part.csv",)

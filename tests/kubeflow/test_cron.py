import pytest

from kubetfx.errors import UsageError
from kubetfx.kubeflow.cron import to_kfp


@pytest.mark.parametrize(
    ("cron", "as_kfp"),
    [
        ("30 6 * * *", "0 30 6 * * *"),
        ("*/15 8-18 * * MON-FRI", "0 */15 8-18 * * MON-FRI"),
        ("0 0 1,15 jan,7 ?", "0 0 0 1,15 jan,7 ?"),
        (" 0  6 * * 0 ", "0 0 6 * * 0"),
        ("15 30 6 * * *", "15 30 6 * * *"),
        ("0 5/10 6 * * ?", "0 5/10 6 * * ?"),
        ("0 6 29 2 *", "0 0 6 29 2 *"),
        ("0 6 31 feb mon", "0 0 6 31 feb mon"),
        ("0 6 28/3 2 *", "0 0 6 28/3 2 *"),
        ("0 6 30-31 2-4 ?", "0 0 6 30-31 2-4 ?"),
        ("0 6 31 */6 *", "0 0 6 31 */6 *"),
        ("@daily", "@daily"),
        ("@every 1h30m", "@every 1h30m"),
    ],
)
def test_a_schedule_gets_the_field_for_seconds_that_kfp_reads(cron, as_kfp):
    assert to_kfp(cron) == as_kfp


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 0 6 * * * 2027", "7 fields"),
        ("60 6 * * *", "minute of the schedule goes from 0 to 59"),
        ("0 24 * * *", "hour of the schedule goes from 0 to 23"),
        ("0 6 0 * *", "day of the month of the schedule goes from 1 to 31"),
        ("0 6 * 13 *", "month of the schedule goes from 1 to 12, or jan to dec"),
        ("0 6 * * 7", "Sunday is 0"),
        ("0 6 * * fun", "day of the week of the schedule goes from 0 to 6, or sun to sat"),
        ("0 18-8 * * *", "a range that ends before it begins"),
        ("*/0 * * * *", "a step of zero"),
        ("0 6 L * *", "day of the month"),
        ("0 6 1.5 * *", "is not \\*, \\?, a value"),
        ("30 2 31 2 *", "never comes: day 31 is in none of its months, which have 29 days at most"),
        ("30 2 31 apr,6,sep,11 ?", "never comes: day 31 is in none of its months, which have 30 days"),
        ("0 30 2 30,31 feb *", "never comes: day 30"),
        ("@reboot", "1 fields"),
        ("@every tuesday", "2 fields"),
        (
            "TZ=Europe/Berlin 30 6 * * *",
            "no time zone per schedule.*Leave TZ=Europe/Berlin out.*CRON_SCHEDULE_TIMEZONE",
        ),
        ("CRON_TZ=UTC 0 30 6 * * *", "no time zone per schedule"),
    ],
)
def test_what_kfp_would_misread_is_refused_in_words(cron, message):
    with pytest.raises(UsageError, match=message):
        to_kfp(cron)

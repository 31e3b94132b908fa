"""`kubetfx schedule` with a server on this machine that answers as Kubeflow Pipelines does."""

import pytest

from tests.kubeflow.conftest import change


def test_a_schedule_is_created_with_seconds_in_front(schedule, server):
    outcome = schedule("--param", "rows=5", "--max-concurrency", "2")

    assert outcome.exit_code == 0, outcome.stderr
    (made,) = server.recurring_runs.values()
    assert outcome.stdout.strip() == f"{server.url}/#/recurringrun/details/{made['recurring_run_id']}"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 6 * * mon-fri"}}
    assert (made["display_name"], made["mode"], made["no_catchup"]) == ("two-steps", "ENABLE", True)
    assert made["max_concurrency"] == "2"
    assert made["runtime_config"]["parameters"] == {"rows": 5}
    assert "created" in outcome.stderr


def test_a_second_schedule_of_a_name_takes_the_first_one_s_place(schedule, server, package):
    first = schedule("--format", "json").document
    again = schedule("--format", "json").document
    later = schedule("--format", "json", cron="0 0 7 * * *").document
    change(package)
    changed = schedule("--format", "json", cron="0 0 7 * * *").document
    other = schedule("--format", "json", "--name", "another").document

    assert [found["change"] for found in (first, again, later, changed, other)] == [
        "created",
        "unchanged",
        "updated",
        "updated",
        "created",
    ]
    assert again["recurring_run_id"] == first["recurring_run_id"]
    assert set(server.recurring_runs) == {changed["recurring_run_id"], other["recurring_run_id"]}


def test_schedule_of_another_profile_with_the_name_is_left_alone(schedule, server):
    server.is_multi_user, server.namespaces = True, ("alice", "bob")
    schedule("--namespace", "bob")
    outcome = schedule("--namespace", "alice")

    assert outcome.exit_code == 0, outcome.stderr
    assert [made["namespace"] for made in server.recurring_runs.values()] == ["bob", "alice"]
    assert [pipeline["namespace"] for pipeline in server.pipelines.values()] == ["bob", "alice"]


def test_a_disabled_schedule_stays_disabled(schedule, server):
    schedule()
    for made in server.recurring_runs.values():
        made["mode"] = "DISABLE"

    outcome = schedule(cron="@daily")

    (made,) = server.recurring_runs.values()
    assert (made["mode"], made["trigger"]["cron_schedule"]["cron"]) == ("DISABLE", "@daily")
    assert "it is disabled, as it was" in outcome.stderr


def test_a_bad_schedule_is_refused_before_anything_is_uploaded(schedule, server):
    outcome = schedule(cron="6 o'clock")

    assert outcome.exit_code == 2
    assert "2 fields" in outcome.stderr
    assert server.pipelines == {}


def test_start_end_and_catching_up_reach_the_schedule_and_are_part_of_it(schedule, server):
    times = ("--start", "2099-01-01T06:00:00+02:00", "--end", "2099-12-31T00:00:00Z", "--catch-up")
    first = schedule(*times, "--format", "json").document
    again = schedule(*times, "--format", "json").document

    (made,) = server.recurring_runs.values()
    assert made["trigger"]["cron_schedule"] == {
        "cron": "0 30 6 * * mon-fri",
        "start_time": "2099-01-01T04:00:00Z",
        "end_time": "2099-12-31T00:00:00Z",
    }
    assert made["no_catchup"] is False
    assert (first["change"], again["change"]) == ("created", "unchanged")
    assert schedule(*times[:2], "--format", "json").document["change"] == "updated"


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        (("--start", "tomorrow"), "--start takes a point in time in ISO 8601. Received: 'tomorrow'"),
        (("--start", "2099-01-01T06:00:00"), "2099-01-01T06:00:00, without an offset from UTC. Write"),
        (("--start", "0001-01-01T00:00:00+14:00"), "The start of a schedule is in the years 1 to 9999"),
        (("--end", "9999-12-31T23:59:59-12:00"), "The end of a schedule is in the years 1 to 9999, of UTC too"),
        (("--end", "2020-01-01T06:00:00Z"), "The end of a schedule comes after now"),
        (("--start", "2099-02-01T00:00Z", "--end", "2099-01-01T00:00Z"), "comes after its start"),
    ],
)
def test_period_that_is_none_is_refused_before_anything_is_uploaded(schedule, server, times, reason):
    outcome = schedule(*times)

    assert outcome.exit_code == 2
    assert reason in " ".join(outcome.stderr.split())
    assert server.pipelines == {}

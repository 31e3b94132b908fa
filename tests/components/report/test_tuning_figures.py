"""The part of the report about a search."""

import re

import pytest

from kubetfx.components.report import facts, render, tuning_figures
from kubetfx.components.tuning.tuning_results import TrialResult, TuningResults
from kubetfx.config.loading import load_config


def trial(number, value, state="complete", **settings):
    named = {f"model.{key}": value for key, value in settings.items()}
    error = "TrainingError: The loss <is> not a number." if state == "failed" else None
    return TrialResult(number=number, state=state, settings=named, value=value, seconds=3.0, error=error)


@pytest.fixture
def results():
    return TuningResults(
        study="houses-1",
        metric="auc",
        better="higher",
        asked=6,
        trials=[
            trial(0, 0.7),
            trial(1, 0.8, dropout=0.1, hidden_units=[64]),
            trial(2, 0.75, dropout=0.3, hidden_units=[128, 64]),
            trial(3, None, "failed", dropout=0.4, hidden_units=[64]),
            trial(4, 0.6, "pruned", dropout=0.5, hidden_units=[64]),
            trial(5, 0.82, dropout=0.2, hidden_units=[64]),
        ],
        best=5,
        best_settings={"model.dropout": 0.2, "model.hidden_units": [64]},
        own_settings={"model.dropout": 0.5},
        importance={"model.dropout": 0.75, "model.hidden_units": 0.25},
    )


def test_history_says_how_far_the_best_has_come(results):
    figure = str(tuning_figures.history(results))

    assert "AUC of 4 trials; the best so far goes from 0.7 to 0.82" in figure
    assert figure.count("<circle") == 4
    lower = results.model_copy(update={"better": "lower"})
    assert "from 0.7 to 0.7" in str(tuning_figures.history(lower))


def test_importance_and_coordinates_name_each_setting(results):
    assert "model.dropout 75%; model.hidden_units 25%" in str(tuning_figures.importance(results))
    figure = str(tuning_figures.parallel_coordinates(results))
    assert figure.count("<polyline") == 3
    assert figure.count('class="line s1"') == 1
    assert "[128, 64]" in figure


def test_report_has_the_search_with_the_reasons_of_failures(results):
    config = load_config({"name": "houses", "data": {"path": "houses.csv", "label": "price"}})
    html = render.report(facts.Facts(settings=facts.Settings.of(config), tuning=results))

    assert "Search for settings" in html
    assert "<strong>0.82</strong> with the best settings, and 0.7 with those of the file" in html
    assert "A trial failed: TrainingError: The loss &lt;is&gt; not a number." in html
    heads = re.findall(r'<th scope="col" class="n">(Trial .*?)</th>', html)
    assert heads == ["Trial 5", "Trial 1", "Trial 2", "Trial 0, the file"]
    (dropout,) = re.findall(r'<th scope="row">model.dropout</th>(.*?)</tr>', html)
    assert re.findall(r">([^<]+)</td>", dropout) == ["0.2", "0.1", "0.3", "0.5"]


def test_search_without_an_end_is_drawn_too(results):
    begun = results.model_copy(update={"trials": [], "best": None, "best_settings": {}, "importance": {}})
    config = load_config({"name": "houses", "data": {"path": "houses.csv", "label": "price"}})

    html = render.report(facts.Facts(settings=facts.Settings.of(config), tuning=begun))
    assert "No trial was trained to its end." in html

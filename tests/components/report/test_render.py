import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kubetfx.components.evaluation.evaluation_result import Check, EvaluationResult, Reference
from kubetfx.components.report import plots, render, verdict
from kubetfx.components.report.facts import AnomalyFact, LabelNoise
from kubetfx.components.tuning.tuning_results import TrialResult, TuningResults
from kubetfx.run_record import KILLED, NodeRecord
from tests.components.report import sample

GOLDENS = Path(__file__).parent / "goldens"
SHOWN = ("h1", "h2", "h3", "caption", "figcaption", "thead", "svg", "summary", "nav", "section", "dt")


class Outline(HTMLParser):
    """The structure of a page: headings, figures, tables and folded parts, without the figures in them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._open: list[tuple[str, str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "section" and "id" in attributes:
            self.lines.append(f"#{attributes['id']}")
        elif tag == "svg":
            self.lines.append(f"  [{attributes.get('class')}] {(attributes.get('aria-label') or 'hidden')[:60]}")
        elif tag in ("h1", "h2", "h3", "caption", "figcaption", "thead", "summary", "dt"):
            self._open.append((tag, "", []))
        elif tag in ("th", "li", "strong") and self._open:
            self._open[-1][2].append(" |")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            _, _, parts = self._open.pop()
            self.lines.append(f"  {tag}: {' '.join(' '.join(parts).split())}")

    def handle_data(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)


def outline(html: str) -> str:
    parser = Outline()
    parser.feed(html)
    lines = [re.sub(r"(?<!h)\d[\d.,]*", "#", line)[:110].rstrip() for line in parser.lines]
    kept = [line for index, line in enumerate(lines) if index == 0 or line != lines[index - 1]]
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize(
    ("name", "html"),
    [
        ("classification", lambda: render.report(sample.facts(blessed=True), sample.record("pushed"))),
        ("regression", lambda: render.report(sample.regression_facts(), sample.record("pushed"))),
        ("images", lambda: render.report(sample.image_facts(), sample.record("pushed"))),
    ],
)
def test_structure_is_that_of_the_golden(name: str, html) -> None:
    found, path = outline(html()), GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), "the structure changed; UPDATE_GOLDEN=1 rewrites the golden"


def test_run_of_folds_says_at_the_top_what_they_found() -> None:
    found = sample.facts().model_copy(update={"evaluation": None, "push": None, "cross_validation": sample.folds()})

    html = render.report(found, sample.record("finished"))

    top = html[html.index("<h1") : html.index('id="data"')]
    assert "Accuracy is 0.8 over 3 folds, with 95 % confidence 0.4" in top
    assert "Nothing was pushed: this was a part of the pipeline." in top


def test_run_of_a_search_says_at_the_top_what_is_best() -> None:
    trials = [TrialResult(number=n, state="complete", settings={}, value=n / 10) for n in range(4)]
    results = TuningResults(study="s", metric="auc", better="higher", asked=4, trials=trials, best=3)
    found = sample.facts().model_copy(update={"evaluation": None, "push": None, "tuning": results})

    html = render.report(found, sample.record("finished"))

    assert "The best of 4 trials has AUC 0.3" in html[html.index("<h1") : html.index('id="data"')]


def test_folds_are_shown_one_by_one_and_with_their_spread() -> None:
    html = render.cross_validation_page(sample.folds())

    assert "Fold 3" in html
    assert "0.4072" in html  # 0.8 - 4.303 * 0.1 * sqrt(1 / 3 + 30 / 60), Nadeau and Bengio's bound
    assert html.count("<circle") == 4


def test_rejected_model_says_at_the_top_which_threshold_failed_and_by_how_much() -> None:
    html = render.report(sample.facts(), sample.record())
    top = html[html.index("<h1") : html.index('id="data"')]

    assert "Not pushed: Accuracy misses its threshold by 0.02" in top
    assert "0.04 worse than the served model&#39;s 0.75" in top
    assert "misses by 0.02" in top


@pytest.mark.parametrize(
    ("state", "nodes", "title"),
    [
        ("pushed", 8, "Pushed as version 1795000000"),
        ("unchanged", 8, "Still served: version 1795000000"),
        ("failed", 5, "Failed at Trainer, node 5 of 8"),
        ("interrupted", 5, "Interrupted at Trainer, node 5 of 8"),
        ("stopped_by_anomalies", 4, "Stopped by anomalies of the data"),
        ("running", 4, "Running, or killed without a word"),
    ],
)
def test_every_end_of_a_run_has_its_answer(state: str, nodes: int, title: str) -> None:
    facts = sample.facts(blessed=True)
    if nodes < 8:
        facts = facts.model_copy(update={"evaluation": None, "quality": None, "push": None})
    html = render.report(facts, sample.record(state, nodes=nodes))

    assert title in html[html.index("<h1") : html.index("</h1>")]


@pytest.mark.parametrize(
    ("cached", "words"), [(True, "Nothing changed: every node"), (False, "No new version: the model")]
)
def test_run_that_pushed_nothing_new_says_whether_anything_was_done(cached: bool, words: str) -> None:
    record = sample.record("unchanged")
    states = [node.model_copy(update={"state": "cached" if cached else node.state}) for node in record.nodes]
    html = render.report(sample.facts(blessed=True), record.model_copy(update={"nodes": states}))

    assert words in html


def test_metric_that_is_not_defined_has_no_change() -> None:
    facts = sample.facts()
    metrics = [one.model_copy(update={"served": 0.9}) for one in facts.evaluation.metrics]
    evaluation = facts.evaluation.model_copy(update={"metrics": metrics})
    html = render.report(facts.model_copy(update={"evaluation": evaluation}), sample.record())
    row = html[html.index(">Precision</th>") :].partition("</tr>")[0]

    assert "not defined" in row
    assert re.search(r'data-head="Change"></td>', row)


def test_baselines_stand_beside_the_model_and_notes_at_the_top() -> None:
    html = render.report(sample.facts(blessed=True), sample.record("pushed"))

    row = html[html.index(">AUC</th>") :].partition("</tr>")[0]
    assert 'data-head="Constant">0.5</td>' in row
    assert 'data-head="Linear">0.7</td>' in row
    assert "of every evaluation row." in html.partition('id="data"')[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.95, "is not better than that of always saying &#39;No&#39;"),
        (0.96, "better than that of always saying &#39;No&#39; by no more than chance explains"),
    ],
)
def test_model_that_is_no_better_than_a_constant_is_said_to_be_so(value: float, words: str) -> None:
    check = Check(
        "accuracy", "better_than_baseline", 0.95, value, None, passed=False, better="higher",
        reference=Reference("constant", "always saying 'No'", -0.01, 60),
    )  # fmt: skip
    found = EvaluationResult({"accuracy": value}, {}, {}, [check], is_blessed=False)
    facts = sample.facts().model_copy(update={"evaluation": verdict.describe(found)})

    html = render.report(facts, sample.record())

    assert words in html.partition("</h1>")[0]
    assert "better than constant" in html


def test_slice_within_chance_of_the_whole_is_marked() -> None:
    facts = sample.facts(blessed=True)
    html = render.evaluation_page(facts.evaluation)
    rows = {name: html[html.index(f'scope="row">{name}') :].partition("</tr>")[0] for name in ("colour=red",)}
    script = html[html.index("=&lt;script&gt;") :].partition("</tr>")[0]

    assert "may be chance" not in rows["colour=red"]  # 200 rows, 0.11 behind
    assert "may be chance" in script  # 12 rows


def test_failed_run_shows_the_end_of_the_log_and_what_was_not_reached(tmp_path: Path) -> None:
    (tmp_path / "Trainer.log").write_text(
        "\n".join(f"line {number}" for number in range(100)) + "\n<b>the sky fell</b>"
    )
    record = sample.record("failed", nodes=5, folder=tmp_path)
    html = render.report(sample.facts().model_copy(update={"evaluation": None, "quality": None}), record)

    assert "ValueError: the sky fell" in html
    assert "&lt;b&gt;the sky fell&lt;/b&gt;" in html
    assert "line 10\n" not in html
    assert html.count("not reached") >= 3


def test_end_of_the_log_is_not_shown_twice(tmp_path: Path) -> None:
    (tmp_path / "Trainer.log").write_text("first\n  File x, line 2\nRuntimeError: broken\n")
    record = sample.record("failed", nodes=5, folder=tmp_path)
    error = "Trainer failed: exit status 1. The end of its log:\n    File x, line 2\n  RuntimeError: broken"
    html = render.report(sample.facts(), record.model_copy(update={"error": error}))
    other = render.report(sample.facts(), record.model_copy(update={"error": "Two differences:\n  a\n  b"}))

    assert html.count("RuntimeError: broken") == 1
    assert "Trainer failed: exit status 1.</p>" in html
    assert "Two differences:\n  a\n  b" in other


def test_warnings_of_the_data_stand_at_the_top_and_the_ceiling_among_the_data() -> None:
    found = sample.facts()
    assert found.data is not None
    one = AnomalyFact(split="train", column="c<0>", problem="Leak 0", action="warn", remedy="")
    leaks = [one.model_copy(update={"problem": f"Leak {number}"}) for number in range(7)]
    noise = LabelNoise(rows=300, total_rows=2_201, ceiling=0.79099)
    data = found.data.model_copy(update={"anomalies": leaks, "label_noise": noise})
    page = render.report(found.model_copy(update={"data": data}))
    top, _, below = page.partition('<section id="data"')
    assert [f"Leak {n}" in top for n in range(7)] == [True] * 5 + [False] * 2
    assert "<strong>c&lt;0&gt;</strong>" in top
    assert 'And 2 more warnings, <a href="#data">below</a>.' in top
    assert (
        "300 of 2,201 rows have all the features of a row with another label: with these features no model can be "
        "right for more than 79 % of all rows."
    ) in below
    assert "Rows that differ in the label alone" not in render.report(found)


def test_part_that_could_not_be_made_is_named() -> None:
    facts = sample.facts().model_copy(update={"quality": None, "problems": ["Quality: ValueError: no <model>"]})
    html = render.report(facts, sample.record())

    assert "Quality: ValueError: no &lt;model&gt;" in html


def test_call_works_as_it_stands() -> None:
    found = render.answer(sample.facts(blessed=True), sample.record("pushed"))

    assert found.serve == "kubetfx serve 'my folder/pipeline.yaml'"
    assert found.call is not None
    assert found.call.startswith('curl -d \'{"instances"')
    assert '"it\'"\'"\'s"' in found.call
    assert found.call.endswith("http://localhost:8501/v1/models/sample:predict")


def test_server_of_the_config_is_called_and_none_is_started() -> None:
    facts = sample.facts(blessed=True)
    settings = facts.settings.model_copy(update={"rest": "http://models:8501"})
    found = render.answer(facts.model_copy(update={"settings": settings}), sample.record("pushed"))

    assert found.serve is None
    assert found.call is not None
    assert found.call.endswith("http://models:8501/v1/models/sample:predict")


def test_call_serves_what_the_command_pushed() -> None:
    command = ["kubetfx", "run", "--set", "data.schema_file=s.yaml", "p.yaml", "--set=serving.push_directory=/srv/m"]
    record = sample.record("pushed").model_copy(update={"command": command})
    served = render.answer(sample.facts(blessed=True), record).serve

    assert served == "kubetfx serve p.yaml --set data.schema_file=s.yaml --set=serving.push_directory=/srv/m"


@pytest.mark.parametrize("state", ["failed", "interrupted", "running"])
def test_run_that_broke_off_says_how_to_go_on(state: str) -> None:
    reasons = render.answer(sample.facts(), sample.record(state, nodes=5)).reasons

    assert reasons[-1].endswith("To go on from there: kubetfx run 'my folder/pipeline.yaml'")


@pytest.mark.parametrize(
    ("num_bytes", "destination", "call"),
    [
        (1_900, "/srv/my models/7", "curl -d 999"),
        (5_000, "/srv/my models/7", "curl -d '@/srv/my models/7/assets.extra/request.json'"),
        (5_000, "s3://models/7", "curl -d 999"),
        (200_000, "s3://models/7", None),
    ],
    ids=["short", "long", "long in a bucket", "too long in a bucket"],
)
def test_call_with_many_columns_or_a_picture_reads_a_file(num_bytes: int, destination: str, call: str | None) -> None:
    facts = sample.facts(blessed=True)
    push = facts.push.model_copy(update={"request": "9" * num_bytes, "destination": destination})
    found = render.answer(facts.model_copy(update={"push": push}), sample.record("pushed"))

    assert found.call is None if call is None else found.call.startswith(call)
    assert (found.serve is None) == (call is None)


def test_anomalies_that_stopped_a_run_stand_at_the_top_with_their_splits() -> None:
    facts = sample.facts()
    anomaly = facts.data.anomalies[0].model_copy(update={"action": "stop"})
    found = [anomaly.model_copy(update={"split": f"split {number}"}) for number in range(7)]
    data = facts.data.model_copy(update={"anomalies": found})
    reasons = render.answer(facts.model_copy(update={"data": data}), sample.record("stopped_by_anomalies")).reasons

    assert len(reasons) == 6
    assert f"{found[0].column} (split 0): {found[0].problem}" == reasons[0]
    assert reasons[-1] == "And 2 more. What to do about each is below."


def test_killed_run_is_not_taken_for_an_interrupted_one() -> None:
    record = sample.record("interrupted", nodes=5)

    assert render.answer(sample.facts(), record).title.startswith("Interrupted at")
    assert render.answer(sample.facts(), record.model_copy(update={"error": KILLED})).title.startswith("Killed at")


def test_version_that_was_pushed_before_a_break_is_named() -> None:
    record = sample.record("interrupted").model_copy(update={"pushed_version": 7})

    assert "Version 7 was pushed before that." in render.answer(sample.facts(), record).reasons


def test_nodes_of_a_task_that_failed_are_reached() -> None:
    node = NodeRecord(id="StatisticsGen + SchemaGen", state="failed", seconds=1, log="")
    record = sample.record("failed").model_copy(
        update={"nodes": [node], "planned_nodes": ["StatisticsGen", "SchemaGen", "Trainer"]}
    )

    assert [(step.id, step.state) for step in plots.steps(record)] == [
        ("StatisticsGen", "failed"),
        ("SchemaGen", "failed"),
        ("Trainer", "not reached"),
    ]


@pytest.mark.parametrize(
    "html",
    [
        lambda: render.report(sample.facts(), sample.record()),
        lambda: render.statistics_page(sample.data_facts()),
        lambda: render.schema_page(sample.data_facts().columns),
        lambda: render.anomalies_page(sample.data_facts().anomalies or []),
        lambda: render.training_page(sample.training_facts()),
        lambda: render.evaluation_page(sample.evaluation_facts()),
        lambda: render.table_page(sample.SCRIPT, [sample.SCRIPT], [[sample.SCRIPT]], notes=[sample.SCRIPT]),
        lambda: render.text_page(sample.SCRIPT, sample.SCRIPT),
    ],
    ids=["report", "statistics", "schema", "anomalies", "training", "evaluation", "table", "text"],
)
def test_page_is_one_file_without_scripts_and_addresses(html) -> None:
    text = html()

    assert text.startswith("<!doctype html>")
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?!#|data:,)", text)
    assert not re.search(r"url\(|@import", text)
    assert not re.search(r"[\x00-\x08\x0e-\x1f]", text)


def test_thousand_columns_are_folded_small_and_quick() -> None:
    facts = sample.facts(num_numbers=1000)
    render.report(facts, sample.record())
    started = time.process_time()
    html = render.report(facts, sample.record())

    assert time.process_time() - started < 2.5
    assert len(html.encode()) < 5_000_000
    before_fold, _, _ = html.partition("<summary>The other 961 columns")
    assert before_fold.count('<article class="card">') == 50


def test_columns_that_matter_most_come_first() -> None:
    html = render.report(sample.facts(num_numbers=60), sample.record())
    names = re.findall(r"<h4>(.*?)</h4>", html)

    assert names[:3] == ["label", "number_<wbr>0", "number_<wbr>1"]


def test_run_without_table_still_has_a_report() -> None:
    facts = sample.facts(blessed=True).model_copy(update={"data": None})
    html = render.report(facts, sample.record("pushed"))

    assert 'id="data"' not in html
    assert 'href="#data"' not in html
    assert "Pushed as version" in html

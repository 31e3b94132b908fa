import json
import os
from pathlib import Path

import jsonschema

from kubetfx.components.report import metrics_document as metrics
from kubetfx.components.report.facts import Facts, Settings
from tests.components.report import sample

SCHEMA = Path(__file__).parents[3] / "docs" / "metrics.schema.json"


def published() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def test_published_schema_is_that_of_the_code() -> None:
    schema = metrics.Metrics.model_json_schema()
    if os.environ.get("UPDATE_GOLDEN"):
        SCHEMA.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert schema == published(), "metrics.json changed; UPDATE_GOLDEN=1 rewrites its schema. Did its version change?"


def test_metrics_of_every_kind_of_run_fit_the_schema() -> None:
    for facts, record in (
        (sample.facts(), sample.record()),
        (sample.regression_facts(), sample.record("pushed")),
        (sample.facts(blessed=True), None),
        (Facts(settings=Settings(name="x", model_name="x")), sample.record("failed", nodes=1)),
    ):
        document = json.loads(metrics.document(facts, record).model_dump_json())
        jsonschema.validate(document, published())


def test_metrics_say_what_the_report_says() -> None:
    document = metrics.document(sample.facts(), sample.record())

    assert (document.blessed, document.pushed_version, document.served_version) == (False, None, 1794000000)
    assert document.metrics["accuracy"].served == 0.75
    assert document.metrics["precision"].value is None
    assert [threshold.passed for threshold in document.thresholds] == [True, False]
    assert document.data is not None
    assert list(document.data.drifted) == ["number_0"]
    assert document.training is not None
    assert document.training.best_epoch == 8
    assert next(iter(document.importance)) == "number_0"


def test_every_field_is_described_in_the_docs() -> None:
    text = (SCHEMA.parent / "metrics.md").read_text(encoding="utf-8")

    for name in metrics.Metrics.model_fields:
        assert f"`{name}`" in text, name

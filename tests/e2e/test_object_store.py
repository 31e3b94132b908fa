"""A whole run from a table in a bucket to a push into a bucket, and the commands after it."""

import os
import uuid
from dataclasses import dataclass

import pytest

from kubetfx.components.push.push_directory import versions
from kubetfx.storage import ObjectPath
from tests.command import Finished
from tests.e2e.project import PENGUINS, Project, penguins_in, states
from tests.s3_store import BUCKET, S3Store

TABLE = "data/penguins.csv"


@dataclass(frozen=True)
class InBucket:
    """A project whose data and push directory are in a bucket, and its first run."""

    project: Project
    bucket: ObjectPath
    first: Finished

    @property
    def served(self) -> ObjectPath:
        return self.bucket / "served"


@pytest.fixture(scope="module")
def in_bucket(s3_store: S3Store, tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_store.environment().items():
            patch.setenv(name, value)
        bucket = ObjectPath("s3", BUCKET) / uuid.uuid4().hex[:12]
        project = penguins_in(tmp_path_factory.mktemp("e2e") / "penguins")
        (bucket / TABLE).upload(PENGUINS / TABLE)
        (project.folder / TABLE).unlink()
        text = project.config.read_text().replace("path: data", f"path: {bucket}/data")
        project.config.write_text(f"{text}serving: {{push_directory: '{bucket}/served'}}\ntraining: {{epochs: 150}}\n")
        yield InBucket(project, bucket, project.run())


def test_a_run_goes_from_bucket_to_bucket(in_bucket):
    first = in_bucket.first
    assert first.exit_code == 0, first.stdout

    version = first.document["pushed_version"]
    assert versions(in_bucket.served) == [version]
    assert first.document["push_directory"] == str(in_bucket.served)
    assert first.document["is_new_version"]
    assert not in_bucket.project.pushed.exists()
    names = {info.path.relative_to(in_bucket.served / str(version)) for info in in_bucket.served.files()}
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/push.json"} <= names


def test_an_unchanged_second_run_executes_nothing(in_bucket):
    second = in_bucket.project.run()

    assert second.exit_code == 0, second.stdout
    assert set(states(second).values()) == {"cached"}
    assert not second.document["changed"]
    assert second.document["pushed_version"] == in_bucket.first.document["pushed_version"]


def test_pushed_model_predicts_from_the_bucket(in_bucket, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join((PENGUINS / TABLE).read_text().splitlines()[:4]) + "\n")

    predicted = in_bucket.project.predict(rows)

    assert [row["label"] for row in predicted.document["predictions"]] == ["Adelie"] * 3
    assert predicted.document["version"] == in_bucket.first.document["pushed_version"]


def test_wrong_credentials_end_the_run_before_any_work(in_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    logs = os.listdir(in_bucket.project.workspace / "logs")

    refused = in_bucket.project.run()

    assert refused.exit_code == 2
    assert "refuses the credentials" in refused.document["error"]["message"]
    assert os.listdir(in_bucket.project.workspace / "logs") == logs

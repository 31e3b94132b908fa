"""Trees from a CSV to the answers of the server, and what is said of them."""

import re
from pathlib import Path

import httpx
import pytest

from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from tests.e2e.project import PENGUINS, metrics_of, penguins_in, report_of
from tests.serving.conftest import options

ROW = {"island": "Dream", "bill_length_mm": 43.2, "bill_depth_mm": 16.6, "flipper_length_mm": 187, "body_mass_g": 2900}
KEYS = ("model.kind=trees", "model.trees.num_iterations=60", "model.trees.learning_rate=0.2")


def test_trees_are_trained_reported_pushed_and_served(tmp_path: Path) -> None:
    project = penguins_in(tmp_path)
    done = project.run(*(argument for key in KEYS for argument in ("--set", key)))

    assert done.exit_code == 0, done.stdout
    assert done.document["metrics"]["accuracy"] >= 0.95
    assert metrics_of(done)["training"]["model"] == "trees"
    importance = metrics_of(done)["importance"]
    assert max(importance, key=importance.get).startswith(("bill", "flipper"))
    html = report_of(done).read_text(encoding="utf-8")
    assert "A part of this report could not be made" not in html
    assert re.search(r"<dt>Trees</dt><dd>[\d,]+ ", html)

    offline = project.predict(PENGUINS / "rows.csv").document["predictions"][2]
    assert offline["label"] == "Chinstrap"
    rows = [ROW | {"sex": "female", "year": 2007}, ROW | {"sex": "", "year": 2007, "island": "nowhere"}]
    with RunningServer(options(ModelConfig("penguins", project.pushed))) as server:
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/penguins:predict"
        known, unseen = httpx.post(url, json={"instances": rows}, timeout=60, trust_env=False).json()["predictions"]
    assert known["probabilities"] == pytest.approx(list(offline["probabilities"].values()), rel=1e-6)
    assert sum(unseen["probabilities"]) == pytest.approx(1, abs=1e-6)

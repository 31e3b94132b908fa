"""Values put into a file that a person wrote."""

import re

import pytest
import yaml

from kubetfx.config.yaml_edit import with_values, write_values
from kubetfx.errors import ConfigError

TEXT = """\
# What it is for.
name: houses   # a name
data: {path: houses.csv, label: price}

model:
    # wide enough
    hidden_units: [128, 64] # found by hand
    dropout: 0.1
evaluation:
    slices:
        - carrier
        - origin
    thresholds: {accuracy: {at_least: 0.9}}
"""


def test_comments_order_and_style_stay():
    written = with_values(TEXT, {"model.hidden_units": [64], "model.dropout": 0.3, "training.learning_rate": 0.002})

    assert written.startswith("# What it is for.\nname: houses   # a name\ndata: {path: houses.csv, label: price}\n")
    assert re.search(r"^    hidden_units: \[64\] +# found by hand$", written, re.MULTILINE)
    assert "# wide enough" in written
    assert "        - carrier\n        - origin\n" in written
    assert yaml.safe_load(written) == {
        **yaml.safe_load(TEXT),
        "model": {"hidden_units": [64], "dropout": 0.3},
        "training": {"learning_rate": 0.002},
    }


def test_key_within_a_value_is_told():
    with pytest.raises(ConfigError, match=r"model\.dropout\.rate cannot be written: dropout has no keys"):
        with_values(TEXT, {"model.dropout.rate": 0.3})


def test_file_that_cannot_be_written_stays(tmp_path, monkeypatch):
    path = tmp_path / "pipeline.yaml"
    path.write_text(TEXT)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))

    with pytest.raises(ConfigError, match=r"cannot be written: no space left"):
        write_values(path, {"model.dropout": 0.3})
    assert [file.name for file in tmp_path.iterdir()] == ["pipeline.yaml"]
    assert path.read_text() == TEXT

"""The folder of a pretrained encoder in the config: where it is, what is said of it before a run, and what its files
are part of."""

import shutil
from pathlib import Path

import pytest

from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError
from kubetfx.kubeflow.pod_paths import unseen_paths
from kubetfx.pipeline import compiled_pipeline, preflight
from kubetfx.pipeline.component_inputs import state_of_encoder
from kubetfx.storage import ObjectPath

BERT = Path(__file__).parent.parent / "models" / "columns" / "text" / "references" / "bert"


def config_in(folder: Path, place: str = "encoders/bert") -> PipelineConfig:
    (folder / "rows.csv").write_text("text,y\n" + "".join(f"one more word {i},{i % 2}\n" for i in range(40)))
    features = f"{{text: [text], text_encoder: {{pretrained: {place}}}}}"
    (folder / "pipeline.yaml").write_text(f"name: p\ndata: {{path: rows.csv, label: y}}\nfeatures: {features}\n")
    return load_config(folder / "pipeline.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BERT, tmp_path / "encoders" / "bert"))


def test_it_is_beside_the_config(folder: Path, tmp_path: Path) -> None:
    assert config_in(tmp_path).features.text_encoder.pretrained == str(folder)


def test_a_good_one_passes_the_check_before_a_run(folder: Path, tmp_path: Path) -> None:
    assert preflight.check(config_in(tmp_path)).num_rows == 40


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.safetensors", "the folder lacks model.safetensors"),
        ("config.json", "the folder lacks config.json"),
        (".", "there is no such folder"),
    ],
)
def test_what_is_missing_is_said_before_a_run(folder: Path, tmp_path: Path, missing: str, message: str) -> None:
    config = config_in(tmp_path)
    shutil.rmtree(folder) if missing == "." else (folder / missing).unlink()

    with pytest.raises(ConfigError, match=rf"features\.text_encoder\.pretrained: {message}.*Received: "):
        preflight.check(config)


def test_a_url_of_another_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.text_encoder\.pretrained: .*Received: ftp://host/bert"):
        config_in(tmp_path, "ftp://host/bert")


def test_other_files_are_another_input_of_transform_and_trainer(folder: Path, tmp_path: Path) -> None:
    config = config_in(tmp_path)
    before = state_of_encoder(config)
    assert before == state_of_encoder(config)

    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")

    assert before.keys() == {"encoder_state"}
    assert state_of_encoder(config) != before
    assert compiled_pipeline.key_of(config) is None


def test_files_in_a_bucket_have_a_state_too(bucket: ObjectPath, tmp_path: Path) -> None:
    (bucket / "bert" / "config.json").write_bytes(b"{}")
    config = config_in(tmp_path, str(bucket / "bert"))
    before = state_of_encoder(config)

    (bucket / "bert" / "config.json").write_bytes(b"{ }")

    assert before.keys() == {"encoder_state"}
    assert state_of_encoder(config) != before


def test_one_that_this_machine_does_not_see_has_no_state(tmp_path: Path) -> None:
    assert state_of_encoder(config_in(tmp_path, "/mounted/in/the/cluster")) == {}


def test_tasks_that_cannot_see_it_are_named(tmp_path: Path) -> None:
    lines = unseen_paths(config_in(tmp_path))

    begins = "features.text_encoder.pretrained is not in a bucket, and not on a volume of Transform and Trainer"
    assert any(line.startswith(begins) for line in lines)


def test_guessing_tokens_is_of_one_process(tmp_path: Path) -> None:
    config_in(tmp_path)
    changes = {
        "features.text_encoder": {"kind": "transformer", "pretrain": {"epochs": 1}},
        "training.distribution": {"strategy": "multi_worker"},
    }

    with pytest.raises(ConfigError, match=r"pretrain runs in one process only\. Received: .*multi_worker"):
        load_config(tmp_path / "pipeline.yaml", overrides=changes)

"""The compiled pipeline of the last run: taken again for the same, and for nothing else."""

from pathlib import Path

import pytest
from tfx.proto.orchestration import pipeline_pb2

from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.pipeline import compiled_pipeline


def config_in(folder: Path, *overrides: str) -> PipelineConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.yaml").write_text("name: penguins\ndata: {path: /data, label: species}\n")
    return load_config(folder / "pipeline.yaml", overrides=overrides)


def test_it_is_taken_again_for_the_same_config(tmp_path):
    pipeline = pipeline_pb2.Pipeline()
    pipeline.pipeline_info.id = "penguins"
    key = compiled_pipeline.key_of(config_in(tmp_path))
    assert compiled_pipeline.load(tmp_path, key) is None
    compiled_pipeline.save(tmp_path, key, pipeline)
    assert compiled_pipeline.load(tmp_path, compiled_pipeline.key_of(config_in(tmp_path))) == pipeline


@pytest.mark.parametrize("override", ["training.epochs=3", "workspace=elsewhere", "serving.push_directory=pushed"])
def test_it_is_not_taken_for_another_config(tmp_path, override):
    compiled_pipeline.save(tmp_path, compiled_pipeline.key_of(config_in(tmp_path)), pipeline_pb2.Pipeline())
    assert compiled_pipeline.load(tmp_path, compiled_pipeline.key_of(config_in(tmp_path, override))) is None


def test_it_is_not_taken_in_a_folder_that_was_moved(tmp_path):
    assert compiled_pipeline.key_of(config_in(tmp_path / "a")) != compiled_pipeline.key_of(config_in(tmp_path / "b"))


@pytest.mark.parametrize("override", ["model.module=mine", "data.schema_file=schema.pbtxt"])
def test_it_is_not_kept_where_more_files_decide(tmp_path, override):
    key = compiled_pipeline.key_of(config_in(tmp_path, override))
    assert key is None
    compiled_pipeline.save(tmp_path, key, pipeline_pb2.Pipeline())
    assert compiled_pipeline.load(tmp_path, key) is None

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubetfx.config.data_section import DataConfig
from kubetfx.config.loading import load_config
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import ConfigError, DataError
from kubetfx.pipeline import preflight
from tests.components.pictures import write_classes

IMAGES = {"name": "x", "data": {"path": "data", "format": "images"}, "model": {"kind": "image"}}


@pytest.fixture
def load(tmp_path: Path):
    def load_sections(**sections: Any) -> PipelineConfig:
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump(IMAGES | sections), encoding="utf-8")
        return load_config(path)

    return load_sections


def test_two_sections_are_enough(load):
    config = load(model={})

    assert config.model.kind == "image"
    assert config.model.hidden_units == ()
    assert config == load()  # what older files say besides


def test_keys_of_images_go_with_a_table_that_names_its_column_of_them(load):
    sections = {"data": {"path": "d", "label": "y", "max_pixels": 5}, "features": {"image": ["photo"]}}

    config = load(model={"image_size": 8}, training={"label_smoothing": 0.1}, **sections)

    assert config.model.image_shape == (8, 8)
    assert config.model.hidden_units == ModelConfig().hidden_units


def test_defaults_are_those_of_images(load):
    config = load()

    assert config.data.label == "label"
    assert config.data.max_broken_fraction == 0.01
    assert config.model.image_shape == (64, 64)
    assert config.example_gen == "ImageExampleGen"
    assert load(model={"kind": "image", "image_size": [32, 48]}).model.image_shape == (32, 48)


def test_sections_are_read_again_by_the_nodes(load):
    """A node is handed all keys, also those that the file does not have."""
    config = load(training={"label_smoothing": 0.1}, model={"kind": "image", "filters": [8]})

    assert ModelConfig.model_validate(config.model.model_dump(mode="json")) == config.model
    assert TrainingConfig.model_validate(config.training.model_dump(mode="json")) == config.training
    assert DataConfig.model_validate(config.data.model_dump(mode="json")) == config.data


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {"kind": "tabular"}},
            r"data\.format: images and model\.kind: image go together\. .*model\.kind: network",
        ),
        ({"data": {"path": "d", "label": "y"}}, r"go together\. Received: data\.format: auto, model\.kind: image"),
        ({"model": {"embedding_size": 3}}, r"model\.embedding_size applies to categories"),
        (
            {"model": {"kind": "image", "task": "regression"}},
            r"a folder of images supports classification only\..*model\.task: regression",
        ),
        ({"model": {"kind": "image", "weights": "none"}}, r"model\.weights requires a backbone\. Received: no"),
        (
            {"model": {"kind": "image", "backbone": "VGG16", "filters": [8]}},
            r"model\.filters applies to the small network, and",
        ),
        ({"features": {"numeric": ["a"]}}, r"features applies to tables. Received: data.format"),
        ({"training": {"fine_tune": {}}}, r"training\.fine_tune needs a model\.backbone with"),
        (
            {"training": {"fine_tune": {}}, "model": {"kind": "image", "backbone": "VGG16", "weights": "none"}},
            r"training\.fine_tune needs a model\.backbone with",
        ),
        (
            {"data": {"path": "d", "format": "images", "drop_rows_without_label": True}},
            r"data\.drop_rows_without_label does not apply to images\. Leave it out",
        ),
        ({"evaluation": {"thresholds": {"kapa": {"at_least": 0.9}}}}, r"unknown metric 'kapa'.*Did you mean 'kappa'"),
        ({"evaluation": {"thresholds": {"drop_blur_2": {"at_most": 0.1}}}}, r"unknown metric 'drop_blur_2'"),
        ({"model": {"kind": "image", "augmentation": {"mixup": 2}}}, r"model\.augmentation\.mixup: .*Received: 2"),
        ({"model": {"kind": "image", "augmentation": {"rotate": 2}}}, r"model\.augmentation\.rotate: .*unknown key"),
    ],
)
def test_wrong_combination_is_an_error_that_names_its_keys(load, sections, message):
    with pytest.raises(ConfigError, match=message):
        load(**sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"path": "d", "label": "y", "max_pixels": 5}}, r"data\.max_pixels is for images\. Name the column"),
        ({"training": {"label_smoothing": 0.1}}, r"training\.label_smoothing is for images"),
        ({"model": {"image_size": 8}}, r"model\.image_size is for images\. .*features\.image: \[COLUMN\]"),
        ({"features": {"image": ["a", "b"]}}, r"at most one column of images\. Received: a, b"),
        ({"features": {"image": ["a"], "numeric": ["a"]}}, r"one role only\. Received: a, under numeric and image"),
        (
            {"features": {"image": ["a"]}, "model": {"augmentation": {"mixup": 0.2}}},
            r"mixup applies to images alone: other",
        ),
        ({"evaluation": {"robustness": {"blur": [1]}}}, r"evaluation\.robustness is for images"),
        ({"evaluation": {"metrics": ["kappa"]}}, r"unknown metric 'kappa'"),
    ],
)
def test_key_of_images_is_an_error_for_tables(load, sections, message):
    with pytest.raises(ConfigError, match=message):
        load(**{"data": {"path": "d", "label": "y"}, "model": {}, **sections})


def test_metric_of_the_robustness_check_has_the_name_of_the_change_and_its_strength(load):
    config = load(
        evaluation={
            "robustness": {"blur": [1.5], "jpeg": [50]},
            "thresholds": {"drop_blur_1.5": {"at_most": 0.1}, "kappa": {"at_least": 0.5}},
        }
    )

    assert config.evaluation.robustness.metrics == {"drop_blur_1.5": ("blur", 1.5), "drop_jpeg_50": ("jpeg", 50)}


def test_paths_are_those_beside_the_file(load, tmp_path):
    config = load(
        model={"kind": "image", "backbone": "VGG16", "weights": "vgg.weights.h5"},
        training={"checkpoint_directory": "checkpoints"},
    )

    assert config.model.weights == str(tmp_path / "vgg.weights.h5")
    assert config.training.checkpoint_directory == str(tmp_path / "checkpoints")


@pytest.mark.parametrize("column", ["path", "taken", "brightness"])
def test_slices_of_an_image_each_are_refused(load, tmp_path, monkeypatch, column):
    monkeypatch.setattr(preflight, "_MAX_SLICES", 3)
    write_classes(tmp_path, number=2)
    rows = [f"{name}/00{number}.png,{name},{name} {number},x" for name in ("cat", "dog") for number in range(2)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,taken,place", *rows]) + "\n")
    data = {"path": "list.csv", "format": "images"}

    preflight.check(load(data=data, evaluation={"slices": ["place", "label"]}))
    with pytest.raises(ConfigError, match=rf"at most 3 distinct values is needed\. Received: '{column}', with 4"):
        preflight.check(load(data=data, evaluation={"slices": [["place", column]]}))


def test_images_are_checked_before_anything_starts(load, tmp_path):
    write_classes(tmp_path / "data", number=2)

    assert preflight.describe(preflight.check(load()), load()) == "4 images, 2 classes"
    for sections, error, message in (
        ({"evaluation": {"slices": ["imagesize"]}}, ConfigError, r"no column 'imagesize'\. Did you mean 'image_size'"),
        ({"validation": {"features": {"widht": "warn"}}}, ConfigError, r"no column 'widht'\. Did you mean 'width'"),
        ({"training": {"class_weights": {"cow": 2}}}, ConfigError, r"class_weights: the data has no class 'cow'"),
        ({"data": {"path": "nowhere", "format": "images"}}, DataError, r"data\.path does not exist"),
        (
            {"model": {"kind": "image", "backbone": "VGG16", "weights": "gone.weights.h5"}},
            ConfigError,
            r"model\.weights: there is no such file",
        ),
    ):
        with pytest.raises(error, match=message):
            preflight.check(load(**sections))

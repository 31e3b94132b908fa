from pathlib import Path

import pytest
from PIL import Image

from kubetfx.config.loading import load_config
from kubetfx.errors import DataError, UsageError
from kubetfx.pipeline.scaffold import write_config


def write_images(folder: Path, *, edge: int, **classes: int) -> Path:
    for name, number in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (edge, edge + 9), (index, 0, 0)).save(folder / name / f"{index}.png")
    return folder


def test_folder_of_images_gets_a_config_that_is_valid_and_fits_them(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "my photos", edge=70, cat=2, dog=7)
    (photos / "dog" / "broken.png").write_bytes(b"no picture")

    write_config(str(photos), label=None, path=tmp_path / "pipeline.yaml")

    config = load_config(tmp_path / "pipeline.yaml")
    assert (config.name, config.data.path, config.data.format) == ("my-photos", str(photos), "images")
    assert (config.model.kind, config.model.image_size) == ("image", 64)
    assert config.training.class_weights == "balanced"
    assert config.evaluation.thresholds["accuracy"].at_least == pytest.approx(0.2**2 + 0.8**2)
    text = (tmp_path / "pipeline.yaml").read_text()
    assert text.startswith("# 10 images, 2 classes. Run: kubetfx run pipeline.yaml\n")
    assert "path: my photos\n" in text


@pytest.mark.parametrize(("edge", "size"), [(8, 16), (33, 32), (1_000, 128)])
def test_image_size_is_one_that_most_images_have(tmp_path: Path, edge: int, size: int) -> None:
    write_config(str(write_images(tmp_path / "p", edge=edge, a=2, b=2)), label=None, path=tmp_path / "pipeline.yaml")

    assert load_config(tmp_path / "pipeline.yaml").model.image_size == size


def test_label_is_for_tables_alone(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", edge=8, a=1, b=1)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")

    with pytest.raises(UsageError, match=r"of the class whose folder they are in\. Received: label a"):
        write_config(str(photos), label="a", path=tmp_path / "pipeline.yaml")
    with pytest.raises(UsageError, match=r"Received: .*table\.csv, and no label\. Name that column"):
        write_config(str(tmp_path / "table.csv"), label=None, path=tmp_path / "pipeline.yaml")
    assert not (tmp_path / "pipeline.yaml").exists()


def test_folder_of_splits_is_told_to_be_one_level_too_high(tmp_path: Path) -> None:
    for split in ("test", "train"):
        write_images(tmp_path / "set" / split, edge=8, a=2, b=2)

    with pytest.raises(DataError, match=r"classes are nested: each of 'test', 'train'"):
        write_config(str(tmp_path / "set"), label=None, path=tmp_path / "pipeline.yaml")


def test_dollars_of_names_are_no_references(tmp_path: Path) -> None:
    table = tmp_path / "${HOME} prices.csv"
    table.write_text("x,${cost}\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))

    write_config(str(table), label="${cost}", path=tmp_path / "pipeline.yaml")

    config = load_config(tmp_path / "pipeline.yaml")
    assert (config.data.path, config.data.label) == (str(table), "${cost}")

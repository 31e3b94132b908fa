from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kubetfx.config.evaluation_section import Threshold
from kubetfx.config.loading import load_config, section_of
from kubetfx.errors import ConfigError, DataError, UsageError
from kubetfx.pipeline import preflight
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
    assert config.evaluation.thresholds == {"accuracy": Threshold(better_than_baseline=True, worse_by_at_most=0.01)}
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "# Always saying dog is right for 0.800 of the rows.\n" in text
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


def table(folder: Path, **columns: list) -> str:
    path = folder / "table.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [tuple(columns), *rows]) + "\n", encoding="utf-8")
    return str(path)


EVEN = [row % 2 for row in range(60)]
NUMBERS = [row % 7 for row in range(60)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"x": NUMBERS, "y": [*NUMBERS[:-1], "inf"]},
            r"The label 'y' is infinite in some rows\. Received: values from 0",
        ),
        ({"x": NUMBERS, "y": [""] * 60}, r"The label 'y' is missing in all 60 rows"),
        ({"x": NUMBERS, "y": ["a"] * 60}, r"has one value, so there is nothing to learn"),
        (
            {"x": NUMBERS, "y": ["NA", "EU"] * 30},
            r"'EU' in all 30 rows that have one \(30 cells 'NA' are read as missing; if that is a class, say data",
        ),
        ({"x": [1], "y": [2]}, r"has one value, so there is nothing to learn"),
        ({"y": EVEN}, r"no column besides the label 'y'"),
        ({"id": range(60), "empty": [""] * 60, "y": EVEN}, r"No column can be a feature.*Received: id, empty"),
    ],
    ids=["infinite", "missing", "one class", "one class and NA", "one row", "the label alone", "no feature"],
)
def test_what_a_run_refuses_init_refuses(tmp_path: Path, columns: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_config(table(tmp_path, **columns), label="y", path=tmp_path / "pipeline.yaml")
    assert not (tmp_path / "pipeline.yaml").exists()


def test_more_classes_than_a_run_takes_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, x=[row % 7 for row in range(2_100)], y=[f"c{row % 1_050}" for row in range(2_100)])
    with pytest.raises(ConfigError, match=r"at most 1,000 classes\. Received: 'y'"):
        write_config(path, label="y", path=tmp_path / "pipeline.yaml")


def test_classes_that_are_read_as_missing_are_said_and_the_remedy_works(tmp_path: Path) -> None:
    path = table(tmp_path, x=NUMBERS, y=["NA", "EU", "AS"] * 20)
    said = write_config(path, label="y", path=tmp_path / "pipeline.yaml")
    remedy = "['', N/A, n/a, '#N/A', NaN, nan, 'NULL', 'null']"
    note = f"20 cells 'NA' are read as missing; if that is a class, say data.missing_values: {remedy}"
    assert said == [f"The label 'y': {note}."]
    assert f"# Column 'y': {note}.\n" in (tmp_path / "pipeline.yaml").read_text()

    settings = section_of([f"data.missing_values={remedy}"], "data")
    assert write_config(path, label="y", path=tmp_path / "again.yaml", settings=settings) == []
    config = load_config(tmp_path / "again.yaml")
    assert (config.data.missing_values[:2], config.data.drop_rows_without_label) == (("", "N/A"), False)


def test_columns_named_like_outputs_and_the_task_are_said(tmp_path: Path) -> None:
    path = table(tmp_path, x=NUMBERS, score=NUMBERS, y=EVEN)
    assert write_config(path, label="y", path=tmp_path / "pipeline.yaml") == [
        "Column 'score' is left out: the model returns something of that name.",
        "The task is a classification: 2 whole numbers are taken for classes; if they are amounts or counts: "
        "regression.",
    ]


def test_settings_of_the_data_are_used_and_written(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "x;zip;score;y\n" + "".join(f"{row % 7};{row % 9};1;{row % 2}\n" for row in range(60))
    )
    settings = section_of(["data.csv.delimiter=;", "data.types.zip=text", "data.drop=[x]"], "data")
    write_config(str(tmp_path / "table.csv"), label="y", path=tmp_path / "pipeline.yaml", settings=settings)
    data = load_config(tmp_path / "pipeline.yaml").data
    assert (data.csv.delimiter, data.types, data.drop) == (";", {"zip": "text"}, ("x", "score"))
    with pytest.raises(UsageError, match=r"said beside the settings\. Received: data\.label once more"):
        write_config("table.csv", label="y", path=tmp_path / "other.yaml", settings={"label": "x"})
    with pytest.raises(ConfigError, match=r"Only keys of data can be set here\. Received: training"):
        section_of(["training.epochs=3"], "data")


def test_whole_numbers_that_are_dates_by_name_and_value_are_taken_for_dates_and_said(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        created_at=[1_700_000_000_000 + 86_400_000 * row for row in range(60)],
        day=[20240101 + row % 28 for row in range(60)],
        date_of_birth=[f"{row % 12 + 1}/{row % 12 + 1}/1980" for row in range(60)],
        amount=[1_700_000_000 + row * row for row in range(60)],
        time=[row % 17 for row in range(60)],
        y=EVEN,
    )
    write_config(path, label="y", path=tmp_path / "pipeline.yaml")

    text = (tmp_path / "pipeline.yaml").read_text()
    config = load_config(tmp_path / "pipeline.yaml")
    assert config.data.types == {
        "created_at": {"date": "milliseconds"},
        "day": {"date": "%Y%m%d"},
        "date_of_birth": {"date": "%m/%d/%Y"},
    }
    assert "#   created_at: date, dates as milliseconds\n" in text
    assert "created_at: {date: milliseconds}  # by its name; {created_at: number} if it is an amount\n" in text
    assert [column.name for column in preflight.check(config).columns if column.dates] == list(config.data.types)


def test_dates_in_numbers_are_said_where_the_config_does_not_state_them(tmp_path: Path) -> None:
    path = table(tmp_path, ts=[1_700_000_000 + 86_400 * row for row in range(60)], y=EVEN)
    config = load_config({"name": "a", "data": {"path": path, "label": "y"}, "model": {"task": "classification"}})

    said = "Column 'ts': whole numbers; if they are dates, say data.types: {ts: {date: seconds}}."
    assert said in preflight.notes(preflight.check(config))


def test_folder_of_splits_is_told_to_be_one_level_too_high(tmp_path: Path) -> None:
    for split in ("test", "train"):
        write_images(tmp_path / "set" / split, edge=8, a=2, b=2)

    with pytest.raises(DataError, match=r"classes are nested: each of 'test', 'train'"):
        write_config(str(tmp_path / "set"), label=None, path=tmp_path / "pipeline.yaml")


def test_dollars_of_names_are_no_references(tmp_path: Path) -> None:
    table = tmp_path / "${HOME} prices.csv"
    table.write_text("x,${cost}\n" + "".join(f"{i % 7},{i % 2}\n" for i in range(40)))

    write_config(str(table), label="${cost}", path=tmp_path / "pipeline.yaml")

    config = load_config(tmp_path / "pipeline.yaml")
    assert (config.data.path, config.data.label) == (str(table), "${cost}")


@pytest.mark.parametrize("labels", [[1.5, 2.5, 2.5, 9.25, 400.75], [0.5, 1.5, 0.5, 1.5]])
def test_no_constant_meets_the_thresholds_of_a_regression(tmp_path: Path, labels: list[float]) -> None:
    rows = "".join(f"{label},{index % 7}.5\n" for index, label in enumerate(labels * 10))
    (tmp_path / "prices.csv").write_text("price,size\n" + rows)

    write_config(str(tmp_path / "prices.csv"), label="price", path=tmp_path / "pipeline.yaml")

    threshold = load_config(tmp_path / "pipeline.yaml").evaluation.thresholds["mean_absolute_error"]
    best = min(np.abs(np.array(labels) - constant).mean() for constant in np.linspace(0, 400, 4_001))
    assert threshold.at_most is not None
    assert best * 0.98 < threshold.at_most < best
    assert threshold.better_than_baseline is True


def test_where_one_class_is_nearly_all_accuracy_is_said_to_tell_little(tmp_path: Path) -> None:
    rows = "".join(f"{'No' if number % 20 else 'Yes'},{number}.5\n" for number in range(100))
    (tmp_path / "buys.csv").write_text("buys,age\n" + rows)

    write_config(str(tmp_path / "buys.csv"), label="buys", path=tmp_path / "pipeline.yaml")

    text = (tmp_path / "pipeline.yaml").read_text()
    assert '# Always saying "No" is right for 0.950 of the rows.\n' in text.replace("'", '"')
    assert "# The rest is rare" in text


@pytest.mark.parametrize("name", ["null", "~", "12", "yes"])
def test_names_and_cells_of_several_lines_make_a_config_that_is_valid(tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    classes = ("a\nb", "c")
    rows = [f'{row % 7},"{row % 9 + 1}/2/2024","{classes[row % 2]}"' for row in range(60)]
    Path(f"{name}.csv").write_text('"x","on\nday","my\nlabel"\n' + "\n".join(rows))
    write_config(f"{name}.csv", label="my\nlabel", path=tmp_path / "pipeline.yaml")

    data = load_config(tmp_path / "pipeline.yaml").data
    assert (data.label, data.path) == ("my\nlabel", str(tmp_path / f"{name}.csv"))
    assert data.stated_types["on\nday"].kind == "date"

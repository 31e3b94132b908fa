from pathlib import Path

import pytest

from kubetfx.components.data import picture_columns, tables
from kubetfx.components.data.column_roles import choose_role
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.config.data_section import DataConfig, FeaturesConfig
from kubetfx.errors import ConfigError, DataError
from kubetfx.storage import locate
from kubetfx.tables.files import TableFiles

ROWS = 30


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Files that exist, in a folder beside the table."""
    (tmp_path / "shown").mkdir()
    for number in range(ROWS):
        (tmp_path / "shown" / f"{number}.png").touch()
    lines = [f"shown/{n}.png,shown/{n + 1}.png,{n}.png,{n % 3},{n % 2}" for n in range(ROWS)]
    (tmp_path / "table.csv").write_text("\n".join(["photo,next,name,size,kind", *lines]) + "\n")
    return DataConfig(path=str(tmp_path), label="kind")


def find(data: DataConfig, *, named: tuple[str, ...] = ()) -> TableProfile:
    files = tables.find_files(data)
    return picture_columns.with_pictures(tables.inspect_table(files, data), files, data, named=named)


def test_column_whose_every_value_is_the_path_of_a_picture_is_of_pictures(data):
    profile = find(data)

    column = picture_columns.picture_column(profile)
    assert column is not None
    assert column.name == "photo"  # the last value of `next` and all of `name` are no files
    role = choose_role(column, num_rows=ROWS, config=FeaturesConfig())
    assert role == ("image", "every value is the path of a picture")
    assert profile.described == ["next", "name", "size", "kind"]


def test_column_that_is_named_is_of_pictures_whatever_is_there(data):
    column = picture_columns.picture_column(find(data, named=("next",)))

    assert column is not None
    assert (column.name, column.picture_reason) == ("next", "as configured")


def test_two_columns_of_pictures_are_an_error_that_says_what_to_do(data, tmp_path):
    (tmp_path / "shown" / f"{ROWS}.png").touch()

    with pytest.raises(ConfigError, match=r"at most one column of images\. Received: photo, next.*drop: \[next\]"):
        find(data)
    assert picture_columns.picture_column(find(data.model_copy(update={"drop": ("next",)}))) is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [("foto", r"no column 'foto'\. Did you mean 'photo'\?"), ("size", r"a column of paths is needed here.*numbers")],
    ids=["unknown", "numbers"],
)
def test_named_column_that_can_hold_no_paths_is_an_error(data, name, message):
    with pytest.raises(ConfigError, match=message):
        find(data, named=(name,))


def test_pictures_of_a_table_in_a_bucket_are_an_error_where_they_are_named(data):
    profile = find(data)
    files = TableFiles(locate("s3://a"), ("s3://a/t.csv",), "csv", "t.csv")

    with pytest.raises(DataError, match=r"Received: features\.image: photo, of a table in a bucket"):
        picture_columns.with_pictures(profile, files, data, named=("photo",))


def test_fingerprint_changes_with_a_picture_alone(data, tmp_path):
    files = tables.find_files(data)
    column = find(data).column("photo")
    before = picture_columns.fingerprint(column, files, data)

    assert picture_columns.fingerprint(column, files, data) == before
    (tmp_path / "shown" / "7.png").write_bytes(b"more")
    assert picture_columns.fingerprint(column, files, data) != before

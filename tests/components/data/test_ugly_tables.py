"""Tables as people send them: what would silently mean something else is said, or refused with a remedy that works."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kubetfx.components.data import tables
from kubetfx.errors import DataError
from tests.components.data.test_tables import column_of, data_config, inspect, read, types, write, write_parquet


def cells(path: Path, *values: str, name: str = "a") -> Path:
    return write(path, f"{name},y", *(f'"{value}",{index % 2}' for index, value in enumerate(values)))


def check_label(path: Path, **fields: Any) -> None:
    tables.check_label(inspect(path, **fields), data_config(path, **fields))


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["45%", "50", "0"], "percentages are beside other numbers: '45%' is read as 0.45, '50' is read as 50"),
        (["50", "7.5", "45%"], "percentages are beside other numbers: '50' is read as 50, '45%' is read as 0.45"),
        (["45%", "50%", "0"], "'45%' is read as 0.45"),
        (["$5", "7", "€6"], "several currencies count alike: '$5' is read as 5, '€6' is read as 6"),
        (["$5", "7", "US$ 6"], "'$5' is read as 5"),
        (["5 EUR", "6 €"], "'5 EUR' is read as 5"),
    ],
)
def test_units_that_do_not_fit_together_are_said(tmp_path, values, note):
    assert column_of(cells(tmp_path / "a.csv", *values), "a").note == note


@pytest.mark.parametrize("code", ["18446744073709551615", "0x1F", "-92233720368547758080"])
def test_codes_that_no_number_keeps_are_text(tmp_path, code):
    path = cells(tmp_path / "a.csv", code, "3")

    assert [row["a"] for row in read(path)] == [code, "3"]
    assert f"text, since {code!r}" in str(column_of(path, "a").note)


def test_long_numbers_among_decimals_are_numbers(tmp_path):
    assert types(cells(tmp_path / "a.csv", "18446744073709551615", "3.5"))["a"] == "float"


@pytest.mark.parametrize(
    "values", [["13/2/2024", "2/13/2024"], ["01.02.2024 10.30", "13.02.2024 11.30"], ["2024/31/12"] * 2]
)
def test_dates_of_no_one_format_are_said_to_be_text(tmp_path, values):
    path = cells(tmp_path / "a.csv", *values)

    assert column_of(path, "a").note == f"text, since no format of dates fits most cells, such as {values[0]!r}"
    assert [row["a"] for row in read(path)] == values


@pytest.mark.parametrize(
    ("stated", "values"),
    [("date", ["45292", "45293"]), ("date", ["hello", "world"]), ("number", ["hello", "world"])],
    ids=["days of Excel", "words for dates", "words for numbers"],
)
def test_a_type_that_no_cell_has_is_refused(tmp_path, stated, values):
    path = cells(tmp_path / "a.csv", *values)

    with pytest.raises(
        DataError,
        match=rf"none of its cells fits: {stated}\. Received: 2 of 2 .*'{values[0]}' in row "
        rf"1",
    ):
        inspect(path, types={"a": stated})
    assert types(path, types={"a": "text"})["a"] == "string"


def test_words_beside_placeholders_are_not_said_to_be_odd(tmp_path):
    assert column_of(cells(tmp_path / "a.csv", "None", "None", "some"), "a").note is None


def test_lists_of_lists_are_left_out_and_said(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", a=[[[1], [2]], [[3]]], b=[1, 2], y=[0, 1])

    assert types(path) == {"b": "int64", "y": "int64"}
    assert "Column 'a' is left out" in inspect(path).notes[0]


def test_classes_that_differ_in_spaces_or_case_are_said(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,yes", "2,no", "3,yes ", "4,No")

    assert column_of(path, "y").note == "'No' and 'no' are different classes; if they should not be, write them alike"


def test_a_label_of_one_class_tells_of_classes_that_are_read_as_missing(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,NA", "2,EU", "3,NA")
    data = {"drop_rows_without_label": True}

    with pytest.raises(DataError, match=r"'EU' in all 1 rows that have one \(2 cells 'NA' are .*missing_values"):
        check_label(path, **data)
    check_label(path, **data, missing_values=[""])


@pytest.mark.parametrize("delimiter", ["~", ":", "^", " ", "\x01"])
def test_an_unusual_delimiter_is_named_and_the_remedy_works(tmp_path, delimiter):
    path = write(tmp_path / "a.csv", *(line.replace(",", delimiter) for line in ("x,k,y", "1,a,0", "2,b,1")))

    with pytest.raises(DataError, match=r"set it: data\.csv: \{delimiter: "):
        check_label(path)
    check_label(path, csv={"delimiter": delimiter})


def test_a_delimiter_at_the_end_of_each_line_is_a_column_without_values(tmp_path):
    path = write(tmp_path / "a.csv", "x,y,", "1,0,", "2,1,")

    assert read(path) == [{"x": 1, "y": 0, "column_3": None}, {"x": 2, "y": 1, "column_3": None}]
    with pytest.raises(DataError, match="several columns of one name"):
        inspect(write(tmp_path / "b.csv", "column_3,y,", "1,0,"))


def test_several_byte_order_marks_are_no_part_of_a_name(tmp_path):
    assert read(write(tmp_path / "a.csv", "\ufeff\ufeffx,y", "1,0")) == [{"x": 1, "y": 0}]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_between_rows_is_refused(tmp_path, mark):
    path = write(tmp_path / "a.csv", "k,y", "a,p", "k,q", f"{mark}k,y", "b,p")

    with pytest.raises(DataError, match=r"a\.csv: row 3 repeats the header.*Received: k,y\."):
        inspect(path)


def test_a_quote_that_is_never_closed_is_told_by_the_row_that_it_begins_in(tmp_path):
    path = write(tmp_path / "a.csv", "x,y", "1,0", '"two,1', *["3,0"] * 20)

    with pytest.raises(DataError, match=r"a\.csv, line 3: a quote begins in this row"):
        inspect(path)
    assert read(path, csv={"quote": ""})[1] == {"x": '"two', "y": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [('[{"x": 1}]', "is a JSON document"), ('{"x": 1}', "is JSON lines"), ("<!DOCTYPE html>", "is a page of HTML")],
)
def test_what_is_no_csv_is_told_by_its_beginning(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        inspect(write(tmp_path / "a.csv", content))


def test_a_file_of_two_encodings_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"k,y\n" + "\n".join(["é,0"] * 30).encode() + b"\n" + "\n".join(["é,1"] * 30).encode("cp1252"))

    with pytest.raises(DataError, match=r"is not UTF-8\. Received: byte 0xe9"):
        inspect(path)


def test_points_that_may_be_between_thousands_are_said_and_the_remedy_works(tmp_path):
    path = write(tmp_path / "a.csv", "x;y", "1.250;0", "12.500;1")

    assert inspect(path).notes == [
        "a.csv is separated by semicolons, with '1.250' read as 1.25 (if it is 1250, data.csv: {decimal: ','})."
    ]
    assert [row["x"] for row in read(path, csv={"decimal": ","})] == [1250, 12500]
    assert "1.25" not in inspect(write(tmp_path / "a.csv", "x;y", "1.250;0", "0.500;1")).notes[0]


def test_tables_in_folders_of_the_folder_are_told_and_the_remedy_works(tmp_path):
    (tmp_path / "north").mkdir()
    write(tmp_path / "north" / "a.csv", "x,y", "1,0")

    with pytest.raises(DataError, match=r"Its folders hold north/a\.csv: .* by (\S+/\*/\*\.csv)"):
        inspect(tmp_path)
    assert read(tmp_path / "*" / "*.csv") == [{"x": 1, "y": 0}]


def test_a_torn_parquet_file_is_said_to_be_torn(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", a=list(range(100)), y=[0, 1] * 50)
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(DataError, match=r"is not a Parquet file that is whole.* Copy or write it again"):
        inspect(path)


def test_keys_of_json_that_are_one_column_are_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a.b": 1, "a": {"b": 2}, "y": 0}')

    with pytest.raises(DataError, match=r"a\.jsonl, line 1: Two of its keys are 'a\.b'"):
        inspect(path)


def test_numbers_that_are_text_in_a_later_file_are_numbers_where_that_is_said(tmp_path):
    write_parquet(tmp_path / "a.parquet", x=[1], y=[0])
    write_parquet(tmp_path / "b.parquet", x=pa.array(["2"]), y=[1])

    with pytest.raises(DataError, match=r"data\.types: \{x: text\}, or number"):
        inspect(tmp_path)
    assert [row["x"] for row in read(tmp_path, types={"x": "number"})] == [1, 2]


@pytest.mark.parametrize("cell", ['[""a"", ""b""]', "['a', 'b']", '{""a"": 1}'])
def test_lists_and_objects_in_cells_of_text_are_said(tmp_path, cell):
    path = cells(tmp_path / "a.csv", *[cell, cell.replace("a", "c")] * 20)
    shown = cell.replace('""', '"')

    assert f"text, since {shown!r} is in brackets" in str(column_of(path, "a").note)
    assert f"the brackets of {shown!r} count" in str(column_of(path, "a", types={"a": "list"}).note)


def test_units_of_several_files_that_do_not_fit_together_are_said(tmp_path):
    for number, cell in enumerate(["45%", "40", "7%"]):
        cells(tmp_path / f"{number}.csv", cell, cell)

    column = column_of(tmp_path, "a")

    assert column.note == "percentages are beside other numbers: '45%' is read as 0.45, '40' is read as 40"
    assert [row["a"] for row in read(tmp_path / "0.csv")] == [0.45, 0.45]


@pytest.mark.parametrize(
    ("others", "note"),
    [
        (["€7", "€8"], "several currencies count alike: '$5' is read as 5, '€7' is read as 7"),
        (["7", "US$ 8"], "'$5' is read as 5"),
    ],
)
def test_several_currencies_of_files_are_said(tmp_path, others, note):
    cells(tmp_path / "1.csv", "$5", "$6")
    cells(tmp_path / "2.csv", *others)

    assert column_of(tmp_path, "a").note == note


@pytest.mark.parametrize("names", [("1.csv", "2.csv"), ("2.csv", "1.csv")], ids=["ISO first", "ISO last"])
def test_files_with_iso_dates_and_others_have_dates_of_both(tmp_path, names):
    iso, american = (tmp_path / name for name in names)
    cells(iso, "2024-02-29", "2023-11-05", name="day")
    cells(american, "2/13/2024", "11/5/2023", name="day")

    column = column_of(tmp_path, "day")

    assert (column.date_format, column.other_formats, column.odd_cells) == ("%m/%d/%Y", (), None)
    assert column.note == "dates as %m/%d/%Y"
    assert [row["day"] for row in read(iso)] == ["2024-02-29", "2023-11-05"]


def swallowing(path: Path, *, first: int, last: int, num_rows: int = 30) -> Path:
    """A file with a stray quote in two rows, which make one cell of the rows between them."""
    rows = [f"{'<' if row in (first, last) else ''}v{row},{row},{row % 2}" for row in range(1, num_rows + 1)]
    return write(path, "a,b,y", *(row.replace("<", '"') for row in rows))


def test_rows_between_stray_quotes_are_found_and_the_remedy_reads_them(tmp_path):
    path = swallowing(tmp_path / "a.csv", first=10, last=20)

    with pytest.raises(DataError, match=r"row 10 has 11 rows within the quotes of one cell, of column 'a'") as error:
        inspect(path)

    assert "data.csv: {quote: ''}" in str(error.value)
    profile = inspect(path, csv={"quote": ""})
    assert profile.num_rows == 30
    assert '"v10' in profile.column("a").values
    assert inspect(path, csv={"quote": '"'}).num_rows == 20  # the user says that the cell is meant


def test_rows_that_the_last_cell_swallowed_are_found(tmp_path):
    rows = [f"{row},{row % 2},{'<' if row in (3, 5) else ''}v{row}".replace("<", '"') for row in range(1, 10)]

    with pytest.raises(DataError, match=r"row 3 has 3 rows within the quotes of one cell, of column 'a'"):
        inspect(write(tmp_path / "a.csv", "b,y,a", *rows))


def test_text_of_several_lines_is_no_swallowed_rows(tmp_path):
    text = '"Smith, John, Dr.\nMain Street 5, left\nTown"'
    path = write(tmp_path / "a.csv", "a,b,y", *(f"{text},{row},{row % 2}" for row in range(20)))

    assert inspect(path).num_rows == 20


def of_days(folder: Path, cells_of: dict[str, list[str] | None]) -> None:
    """A file in each folder, with a column `day` of its own or without."""
    for name, days in cells_of.items():
        (folder / name).mkdir(parents=True)
        header = "v,y" if days is None else "v,y,day"
        rows = [f"{row},{row % 2}" if days is None else f"{row},{row % 2},{days[row]}" for row in range(4)]
        write(folder / name / "a.csv", header, *rows)


def test_column_of_files_counts_for_more_than_that_of_their_folders_which_is_said_once(tmp_path):
    of_days(tmp_path, {"day=1": ["1", "1", "7", "1"], "day=2": ["8", "2", "2", "2"]})

    profile = inspect(tmp_path)

    assert profile.column("day").values == (1, 2, 7, 8)
    said = "Column 'day' is in a.csv and in the name of its folder, day=1, and they differ: a cell is 7."
    assert profile.file_notes == (f"{said} The cells of the file are used.",)


def test_column_of_files_that_says_the_same_as_their_folders_is_nothing_to_tell(tmp_path):
    of_days(tmp_path, {"day=01": ["1"] * 4, "day=2": ["2"] * 4})

    profile = inspect(tmp_path)

    assert (profile.column("day").values, profile.file_notes) == ((1, 2), ())


def test_folder_says_what_a_file_lacks_that_others_have(tmp_path):
    of_days(tmp_path, {"day=1": ["1"] * 4, "day=2": None})

    profile = inspect(tmp_path)
    column = profile.column("day")

    assert (column.num_values, column.values, profile.file_notes) == (8, (1, 2), ())
    (path,) = (tmp_path / "day=2").iterdir()
    data = data_config(tmp_path)
    (block,) = tables.read_blocks(str(path), [column], file_format="csv", data=data)
    assert block.column(0).to_pylist() == [2, 2, 2, 2]

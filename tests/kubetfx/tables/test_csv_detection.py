"""How a CSV file is written is found by looking, and what the user says counts."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kubetfx.errors import DataError
from kubetfx.tables import csv_file
from kubetfx.tables.csv_detection import LOOKED_BYTES, detect
from kubetfx.tables.csv_dialect import Dialect
from kubetfx.tables.csv_options import CsvOptions
from kubetfx.tables.table_file import Cut

TEXT = "name,height,note\nanna,1.75,tall\nbert,1.5,short\n"


def written(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def streamed(path: str, options: CsvOptions) -> list[dict[str, Any]]:
    """The rows of a file that is read in one block, whose cells are text."""
    table = csv_file.CsvTable.look_at(path, options)
    (batch,) = table.stream({name: pa.string() for name in table.types()})
    return list(batch.to_pylist())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT, {}),
        (TEXT.replace(",", ";"), {"delimiter": ";"}),
        (TEXT.replace(",", "\t"), {"delimiter": "\t"}),
        (TEXT.replace(",", "|"), {"delimiter": "|"}),
        (TEXT.replace(",", ";").replace(".", ","), {"delimiter": ";", "decimal": ","}),
        ('a,b\n"1,5",x\n"2,25",y\n', {"decimal": ","}),
        ("a;b\n1,250;x\n2,500;y\n", {"delimiter": ";", "decimal": ","}),  # thousands have points where ; separates
        ('a,b\n"1,250",x\n"2,500",y\n', {}),
        ('a\tb\n"1,250"\tx\n1.5\ty\n', {"delimiter": "\t"}),
        ("a,b\n'x, y',1\n'z',2\n", {"quote": "'"}),
        ("'a';'b'\n'x';1\n'z';2\n", {"quote": "'", "delimiter": ";"}),
        ("a,b\n'x',1\n'z',2\n", {}),
        ("a,b\nit's,1\nthat's,2\n", {}),
        ('a;b\n"x;y, z";1\n"u";2\n', {"delimiter": ";"}),
        ("sep=;\na;b\n1;2\n", {"delimiter": ";", "skip_rows": 1}),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n6.2,2.9,virginica\n", {"header": False}),
        ("1.5,2.5\n3.5,4.5\n", {"header": False}),
        ("2019,2020,2021\n1,2,3\n4,5,6\n", {}),  # years name columns
        ("name,2020\nx,1\ny,2\n", {}),
        ("only\n1\n2\n", {}),
        ("a,b,c\n1,2,3\n4,5,6\n7,8\n" * 1 + "1,2,3\n" * 30, {}),
    ],
)  # fmt: skip
def test_dialect_is_found(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    assert detect(written(tmp_path / "a.csv", text)) == Dialect(**expected)


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("latin-1", "cp1252"),
        ("cp1252", "cp1252"),
    ],
)
def test_encoding_is_found_and_the_header_and_rows_are_read_in_it(tmp_path: Path, encoding: str, found: str) -> None:
    path = written(tmp_path / "a.csv", "größe,stadt\n1,Köln\n2,Zürich\n", encoding)
    dialect = detect(path)
    assert dialect.encoding == found
    assert csv_file.header(path, dialect)[0] == ("größe", "stadt")
    assert streamed(path, CsvOptions()) == [{"größe": "1", "stadt": "Köln"}, {"größe": "2", "stadt": "Zürich"}]


def test_bytes_that_are_of_no_encoding_are_latin_1(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + bytes(range(0x7F, 0x100)) + b",1\n")
    assert detect(str(tmp_path / "a.csv")).encoding == "iso8859-1"


RUSSIAN = [
    "Москва",
    "Казань",
    "Минск",
    "Тверь",
    "Самара",
    "Саратов",
    "Новгород",
    "высокий",
    "низкий",
    "средний",
    "мужской",
    "женский",
]
CITIES = {
    "shift-jis": ["東京", "大阪", "名古屋", "札幌市", "福岡"],
    "gbk": ["北京", "上海", "广州", "深圳", "有限公司"],
    "big5": ["臺北", "高雄", "臺中", "產品"],
    "euc-kr": ["서울", "부산", "대구", "인천"],
    "cp1251": RUSSIAN,
    "koi8-r": RUSSIAN,
    "cp1253": ["Αθήνα", "Πάτρα", "Θεσσαλονίκη", "Βόλος", "άνδρας", "γυναίκα", "υψηλός", "χαμηλός"],
    "mac-roman": ["Genève", "Köln", "Zürich", "Orléans"],
}


@pytest.mark.parametrize("encoding", CITIES)
def test_encoding_of_another_script_is_found_and_said(tmp_path: Path, encoding: str) -> None:
    rows = [f"{number},{CITIES[encoding][number % len(CITIES[encoding])]}" for number in range(20)]
    path = written(tmp_path / "a.csv", "\n".join(["id,city", *rows, ""]), encoding)

    assert [row["city"] for row in streamed(path, CsvOptions())[:4]] == CITIES[encoding][:4]
    assert "is a guess" in detect(path).describe()


@pytest.mark.parametrize(
    "word",
    ["Köln", "20 °C", "São Paulo", "5 µm", "½ cup", "ÁÉÍÓÚ", "¿Qué?", "©", "Ñuñoa", "Großstraße", "ÜBER"],
)
def test_a_western_word_is_not_taken_for_one_of_another_script(tmp_path: Path, word: str) -> None:
    """Each of these has bytes that are whole characters of Chinese, Japanese or Korean encodings."""
    path = written(tmp_path / "a.csv", "id,text\n" + "".join(f"{n},plain words {word}\n" for n in range(20)), "cp1252")
    assert detect(path).encoding == "cp1252"


def test_a_damaged_character_does_not_make_a_file_another_encoding(tmp_path: Path) -> None:
    """Read as cp1252, every good character would become two wrong ones without a word."""
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\nKöln,1\nZürich,2\nGöttingen,3\n".encode() + b"D\xfcren,4\n")
    assert detect(str(path)).encoding == "utf-8"


def test_a_character_at_the_end_of_what_is_looked_at_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    start = b"a,b\n"
    path.write_bytes(start + b"x" * (LOOKED_BYTES - len(start) - 1) + "é,1\n".encode())
    assert detect(str(path)).encoding == "utf-8"


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "# made by a machine\n\n#x\n1;2,5\n# end\n3;4,5\n")
    options = CsvOptions(comment="#", header=False, decimal=",", delimiter=";")
    assert detect(path, options) == Dialect(comment="#", header=False, decimal=",", delimiter=";")
    (batch,) = csv_file.CsvTable.look_at(path, options).stream({"column_1": pa.int64(), "column_2": pa.float64()})
    assert batch.to_pylist() == [{"column_1": 1, "column_2": 2.5}, {"column_1": 3, "column_2": 4.5}]


def test_lines_before_the_header_are_skipped_and_errors_name_the_line_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "Report\nof today\na,b\n1,2\n3\n")
    dialect = detect(path, CsvOptions(skip_rows=2))
    assert csv_file.header(path, dialect)[0] == ("a", "b")
    with pytest.raises(DataError, match=r"line 5: the header has 2 columns, this row has 1\. Received: 3\."):
        streamed(path, CsvOptions(skip_rows=2))


def test_utf_16_needs_no_mark_where_it_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "日本,y\n東京,1\n", "utf-16-le")
    assert csv_file.header(path, detect(path, CsvOptions(encoding="utf-16")))[0] == ("日本", "y")


def test_a_line_within_quotes_is_no_comment(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", '#c\na,b\n"x\n# y",1\n# c\n"z",2\n')
    assert streamed(path, CsvOptions(comment="#")) == [{"a": "x\n# y", "b": "1"}, {"a": "z", "b": "2"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (["# c", "a,b", "x,1", "# c", "y,2"], CsvOptions(comment="#")),
        (["a line", "a,b", "x,1", "y,2"], CsvOptions(skip_rows=1)),
        (["sep=;", "a;b", "x;1", "y;2"], CsvOptions()),
    ],
    ids=["comments", "skipped", "delimiter for Excel"],
)
def test_lines_that_are_no_rows_may_have_any_end(
    tmp_path: Path, lines: list[str], options: CsvOptions, end: str
) -> None:
    path = written(tmp_path / "a.csv", end.join([*lines, ""]))
    assert streamed(path, options) == [{"a": "x", "b": "1"}, {"a": "y", "b": "2"}]


@pytest.mark.parametrize(
    "rows",
    [
        ['5" pipe,1', "# c", "z,2"],
        ["# it's 5\" wide", "z,2"],
        ['"a ""quoted"" word",1', "# c"],
        ['"x', '# of ""two""', '",1', "# c"],
        ['"x', '"",# y",1', "# c", "z,2"],
        ['a,"x', '# y"', "# c"],
    ],
)
def test_comments_are_found_between_rows_with_quotes_anywhere(tmp_path: Path, rows: list[str]) -> None:
    path = written(tmp_path / "a.csv", "\n".join(["a,b", *rows, ""]))
    table = csv_file.CsvTable(path, Dialect(comment="#"), ("a", "b"), len("a,b\n"))
    (batch,) = table.stream({"a": pa.string(), "b": pa.string()})
    expected = [row for row in csv.reader(io.StringIO("\n".join([*rows, "# end", ""]))) if not row[0].startswith("#")]
    assert [list(map(str, row.values())) for row in batch.to_pylist()] == expected


def test_packed_files_are_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("größe;b\n1,5;2\n".encode("cp1252")))
    assert detect(str(path)) == Dialect(";", ",", "cp1252", encoding_is_guess=True)


def test_utf_16_for_which_another_encoding_is_said_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,b\nKöln,1\n", "utf-16")
    with pytest.raises(DataError, match=r"a\.csv is not ASCII\. .*data\.csv: \{encoding: utf-16\}"):
        csv_file.header(path, detect(path, CsvOptions(encoding="ascii")))
    assert csv_file.header(path, detect(path, CsvOptions(encoding="utf-16")))[0] == ("a", "b")


def test_a_damaged_row_of_a_small_file_does_not_hide_the_delimiter(tmp_path: Path) -> None:
    assert detect(written(tmp_path / "a.csv", "a;b;c\n0,5;1;x\n2;y\n3;4;z\n")) == Dialect(";", ",")
    assert detect(written(tmp_path / "b.csv", "notes; more\nlong text\nmore, text\na, b; c\n")) == Dialect()


def test_a_title_above_the_header_is_left_out_where_that_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "Report,,\na,b,c\n1,2,3\n")
    with pytest.raises(DataError, match=r"column 2 has no name\. .*Report,,\. .*data\.csv: \{skip_rows: 1\}"):
        csv_file.header(path, detect(path))
    assert csv_file.header(path, detect(path, CsvOptions(skip_rows=1)))[0] == ("a", "b", "c")


def test_a_file_that_is_not_of_the_encoding_that_is_said_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,b\nKöln,1\n", "cp1252")
    dialect = detect(path, CsvOptions(encoding="ascii"))
    with pytest.raises(DataError, match=r"a\.csv is not ASCII\. .*data\.csv: \{encoding: utf-8\}"):
        csv_file.header(path, dialect)
    assert csv_file.header(path, detect(path, CsvOptions(encoding="cp1252")))[0] == ("a", "b")


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        (Dialect(), ""),
        (Dialect(";", ",", "cp1252"), "separated by semicolons, with decimal commas, in cp1252"),
        (
            Dialect(encoding="cp932", encoding_is_guess=True),
            "in cp932. The encoding is a guess: if letters are wrong, say data.csv: {encoding: cp1252} for example",
        ),
        (Dialect(quote="'", header=False), "quoted by ', without a header"),
        (Dialect(quote="", skip_rows=2), "without quotes, from line 3 on"),
        (Dialect(comment="#"), "without the lines that begin with #"),
    ],
)  # fmt: skip
def test_dialect_in_words(dialect: Dialect, said: str) -> None:
    assert dialect.describe() == said


ESCAPED = "".join(f'"5\\" disc, say \\"{row}\\"",C:\\new,"C:\\new"\n"two\nlines\\"","a\\\\","x"\n' for row in range(20))
"""As Spark writes it: quotes within quotes are escaped, and so are escapes before the quote at the end."""
READ = [
    {"a": '5" disc, say "0"', "b": "C:\\new", "c": "C:\\new"},
    {"a": 'two\nlines"', "b": "a\\", "c": "x"},
]


@pytest.mark.parametrize("escape", [None, "\\"], ids=["found", "stated"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_escaped_quotes_are_quotes(tmp_path: Path, escape: str | None, delimiter: str) -> None:
    text = ("a,b,c\n" + ESCAPED).replace('",', f'"{delimiter}').replace("w,", f"w{delimiter}")
    path = written(tmp_path / "a.csv", text.replace("a,b,c", delimiter.join("abc")))

    rows = streamed(path, CsvOptions(escape=escape))

    assert rows == [{**row, "a": row["a"].replace("0", str(n // 2))} for n, row in enumerate(READ * 20)]
    assert detect(path).describe().endswith("with quotes escaped by \\")


def test_escaped_quotes_that_leave_the_number_of_cells_alone_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'a,b\n"{\\"k\\": 1}",1\n"{\\"k\\": 2}",2\n')

    assert [row["a"] for row in streamed(path, CsvOptions())] == ['{"k": 1}', '{"k": 2}']


def test_backslash_at_the_end_of_a_cell_escapes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'a,b\n"C:\\x\\","1"\n"C:\\y\\","2"\n')

    assert detect(path) == Dialect()
    assert streamed(path, CsvOptions()) == [{"a": "C:\\x\\", "b": "1"}, {"a": "C:\\y\\", "b": "2"}]


def test_blocks_of_a_file_with_escaped_quotes_are_its_rows(tmp_path: Path) -> None:
    table = csv_file.CsvTable.look_at(written(tmp_path / "a.csv", "a,b,c\n" + ESCAPED), CsvOptions())

    segments = list(table.segments(first_block=0, cut=Cut()))
    blocks = [
        read for one in segments for read in table.read(one, [b.number for b in one.blocks], columns="abc", numbers=[])
    ]

    assert [row for _, rows in blocks for row in rows.table.to_pylist()][:2] == READ
    assert sum(block.num_rows for block, _ in blocks) == 40


def test_escaped_quotes_beyond_what_is_looked_at_are_an_error_whose_remedy_works(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,b\n" + "x,1\n" * 300_000 + '"say \\"hi, there\\"",2\n')

    with pytest.raises(DataError, match="if a backslash stands before them, say data"):
        streamed(path, CsvOptions())

    table = csv_file.CsvTable.look_at(path, CsvOptions(escape="\\"))
    *_, last = table.stream({"a": pa.string(), "b": pa.string()})
    assert last.to_pylist()[-1] == {"a": 'say "hi, there"', "b": "2"}

"""The sections `data`, `features` and `validation`.

They say what is read, how columns become features, and what an anomaly causes.
"""

import codecs
import math
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from kubetfx.config.section import Section
from kubetfx.config.text_section import TextEncoderConfig
from kubetfx.storage import is_web
from kubetfx.tables import date_formats
from kubetfx.tables.csv_options import MISSING_VALUES, CsvOptions
from kubetfx.tables.window import Window, has_spans

AnomalyAction = Literal["stop", "warn", "ignore"]
CheckKey = Literal["leakage", "text"]
"""Keys of `validation` for checks of the rows themselves."""
StatedType = Literal["text", "number", "date", "list"]


class Stated(NamedTuple):
    """The entry of `data.types` for a column."""

    kind: StatedType
    how: str | None = None
    """The format of its dates, or the separator of its lists."""


IMAGE_LABEL = "label"
"""Name of the label of images if `data.label` gives none; its values are the names of their folders."""


MODEL_OUTPUTS = frozenset({"label", "score", "probabilities", "classes", "value"})
"""Names of a pushed model's outputs. No feature may have such a name, since a table of rows and predictions has
both.
"""


class Splits(Section):
    """The size of each split, and the rule that assigns rows to splits.

    By default it is a hash of the row's values, so that new rows do not move old ones to another split; copies of a row
    are spread over the splits.
    """

    train: float = Field(0.7, ge=0.001, lt=1)
    """Rows from which statistics of features are computed and on which the model is trained."""
    validation: float = Field(0.1, ge=0, lt=1)
    """Rows for early stopping and the learning-rate schedule. 0: they use `eval`, which makes the scores optimistic."""
    eval: float = Field(0.2, ge=0.001, lt=1)
    """Rows that only the Evaluator sees. `newest`: exactly those of the newest span of `data.window`."""
    by: Literal["row", "group", "time", "column", "span"] = "row"
    """`group`: rows with the same value of `column`, such as one customer's, are in the same split. `time`: the oldest
    rows by `column`, a number or text such as 2024-05-01, are for training, the newest for evaluation. `column`: the
    cells of `column` name the split, and the fractions have no effect. `span` is what `eval: newest` implies.
    """
    column: str | None = None
    """The column by which rows are split, if not by a hash of the row."""
    key: tuple[str, ...] = ()
    """Columns whose values are hashed instead of those of all columns: rows stay in their split even if the others
    change.
    """
    files: dict[Literal["train", "validation", "eval"], str] = {}
    """Files of each split, as globs below `data.path`: `{train: train.csv, eval: test*.csv}`."""

    @model_validator(mode="before")
    @classmethod
    def _the_newest_span_is_for_evaluation(cls, document: Any) -> Any:
        if not isinstance(document, dict) or document.get("eval") != "newest":
            return document
        if "by" in document:
            raise ValueError(f"`eval: newest` already says how rows are split. Received: by: {document['by']} as well")
        train, validation = (document.get(name, default) for name, default in (("train", 0.9), ("validation", 0.1)))
        if not all(isinstance(share, int | float) for share in (train, validation)):
            return document
        if not math.isclose(train + validation, 1, abs_tol=1e-6):
            raise ValueError(
                "with `eval: newest`, the fractions train and validation of the other spans must add up to 1. "
                f"Received: train: {train}, validation: {validation}"
            )
        return {**document, "by": "span", "eval": 0.2, "train": train * 0.8, "validation": validation * 0.8}

    @model_validator(mode="before")
    @classmethod
    def _a_column_names_the_split(cls, document: Any) -> Any:
        if isinstance(document, dict) and "column" in document and "by" not in document:
            document = {"by": "column", **document}
        if isinstance(document, dict) and document.get("files") and "validation" not in document:
            names = document["files"] if isinstance(document["files"], dict) else ()
            if "validation" not in names:
                document = {"train": 0.75, "validation": 0, "eval": 0.25, **document}
        return document

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.by in ("row", "span")) != (self.column is None):
            raise ValueError(
                f"`by: group`, `time` and `column` need the name of a column; other rules do not take one. Received: "
                f"by: {self.by}, "
                f"column: {self.column}"
            )
        rules = [name for name in ("column", "key", "files") if getattr(self, name)]
        if len(rules) > 1:
            raise ValueError(f"rows can be split by one rule only. Received: {', '.join(rules)}")
        if self.files and not {"train", "eval"} <= self.files.keys():
            raise ValueError(
                f"the files of both splits, train and eval, are required. Received: {', '.join(self.files)}"
            )
        return self

    @property
    def fractions(self) -> dict[str, float]:
        """Shares of the rows by split, without empty splits."""
        shares = {"train": self.train, "validation": self.validation, "eval": self.eval}
        return {name: share for name, share in shares.items() if share}

    @property
    def keeps_copies_together(self) -> bool:
        """Whether rows with nearly the same text are put into one split: no other rule groups rows."""
        return self.by == "row" and not self.columns and not self.files

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that determine the split; none: all columns do, or the file."""
        return self.key if self.column is None else (self.column,)

    @field_validator("files")
    @classmethod
    def _are_below_the_path(cls, files: dict[str, str]) -> dict[str, str]:
        for pattern in files.values():
            if "**" in pattern or not {"", ".", ".."}.isdisjoint(pattern.split("/")):
                raise ValueError(
                    "give files, or globs of one folder, below data.path: train.csv, or train/*.csv, for example. "
                    f"Received: {pattern!r}"
                )
        return files

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.eval
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"the fractions must add up to 1. Received: a sum of {total:g}")
        return self


_OneCharacter = Annotated[str, Field(min_length=1, max_length=1, pattern=r"^[\x00-\x7f]$")]


class CsvConfig(Section):
    """The dialect of CSV files. What is not given here is detected from the beginning of each file."""

    delimiter: _OneCharacter | None = None
    """Delimiter between two cells: `,`, `;`, `|`, or another character; `"\\t"` is a tab."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark: the character between the whole and the fractional part of a number."""
    encoding: str | None = None
    """Encoding, by a name that Python knows: utf-8, utf-16, cp1252, latin-1, ..."""
    quote: _OneCharacter | Literal[""] | None = None
    """Quote around a cell that contains a delimiter. Empty: quotes have no meaning."""
    escape: Literal["\\", ""] | None = None
    """Escape character before a quote within a quoted cell: a backslash in files from Spark. Empty: such quotes are
    doubled.
    """
    header: bool | None = None
    """Whether the first row names the columns. If not, they are `column_1`, `column_2` and so on."""
    skip_rows: int | None = Field(None, ge=0)
    """Number of lines to skip before the header, or before the first row."""
    comment: str | None = Field(None, min_length=1)
    """Prefix of comment lines, which are skipped."""

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        try:
            if encoding is not None:
                codecs.getincrementaldecoder(encoding)("replace").decode("text".encode(encoding), final=True)
        except (LookupError, UnicodeError, TypeError):
            raise ValueError(
                f"unknown encoding. Received: {encoding}. Known: utf-8, utf-16, cp1252, latin-1, ..."
            ) from None
        return encoding

    @model_validator(mode="after")
    def _delimiter_is_not_decimal(self) -> Self:
        if self.delimiter is not None and self.delimiter in (self.decimal, self.quote):
            raise ValueError(
                f"data.csv.delimiter must differ from the other special characters. Received: {self.delimiter!r} twice."
            )
        return self


class WindowConfig(Section):
    """Which spans of the data a run uses: the newest N, or a range."""

    model_config = ConfigDict(populate_by_name=True)

    spans: int | None = Field(None, ge=1)
    """Number of newest spans: with dates that many days, with numbers that many numbers. Default, without
    `from` and `to`: 1."""
    first: date | int | None = Field(None, alias="from")
    """The first span: a date such as 2026-11-01, or a number, as `data.path` has them."""
    last: date | int | None = Field(None, alias="to")
    """The last."""
    done_file: str | None = Field(None, min_length=1, pattern=r"^[^/]+$")
    """Name of a file, such as `_SUCCESS`, that is written into the folder of a span when the span is complete. Spans
    without it are skipped.
    """

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.spans is not None and (self.first is not None or self.last is not None):
            raise ValueError("a window has either `spans`, or `from` and `to`. Received: both")
        if self.first is not None and self.last is not None:
            if type(self.first) is not type(self.last):
                raise ValueError(
                    f"`from` and `to` must both be dates or both be numbers. Received: {self.first}, {self.last}"
                )
            if self.first > self.last:  # type: ignore[operator]  # both are of one type
                raise ValueError(f"a window must end after it begins. Received: from {self.first} to {self.last}")
        return self

    @property
    def meant(self) -> Window:
        """The window as the code that finds files takes it."""
        has_bounds = self.first is not None or self.last is not None
        return Window(None if has_bounds else self.spans or 1, self.first, self.last, self.done_file)


class DataConfig(Section):
    """The table or the images, and what to predict from them."""

    path: str = ""
    """A file, a folder of files, or a glob; also in a bucket: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`. Or a file at
    an `https://` or `http://` address, which is downloaded at each run; `${TOKEN}` in it is resolved then. `{SPAN}`, or
    `{YYYY}`, `{MM}` and `{DD}`, in it number the spans in which data arrives, and `{VERSION}` their versions, as in
    TFX: the newest span is used, or those of `window`. For images: a folder with one subfolder per class, or a table
        with the columns `path` and the label.
    """
    label: str
    """The column to predict. For images: a column of the table, by default `label`."""
    source: str | None = None
    """A function, as `module:function`, that yields Arrow record batches or tables instead of files. It is called at
    each run, and unchanged rows come from the cache. `kubetfx.tables.sql:read` yields the rows of a query.
    """
    source_options: dict[str, Any] = {}
    """Arguments of the source, by name. `${NAME}` in them is resolved when the source is called."""
    format: Literal["auto", "csv", "jsonl", "parquet", "arrow", "orc", "images"] = "auto"
    """`auto` follows the file names: .csv and .tsv, .jsonl and .ndjson, .parquet, .feather and .arrow, .orc.
    `images`: JPEG, PNG, BMP, GIF and WebP."""
    drop: tuple[str, ...] = ()
    """Columns to ignore."""
    splits: Splits = Splits()
    window: WindowConfig | None = None
    """Which spans are used if `path` has several: `{spans: 28}` or `{from: 2026-11-01, to: 2026-11-30}`."""
    schema_file: str | None = None
    """A frozen schema (schema.pbtxt of an earlier run). Without one the schema is inferred from the data of the run."""
    csv: CsvConfig = CsvConfig()
    missing_values: tuple[str, ...] = MISSING_VALUES
    """Texts that mean a missing cell in a CSV file."""
    types: dict[str, StatedType | dict[Literal["date", "list"], str]] = {}
    """The types of columns whose cells do not show them: `{zip: text, amount: number, day: date, tags: list}`. With the
    format: `{day: {date: "%d/%m/%Y"}, created: {date: milliseconds}, tags: {list: ";"}}`.
    """
    statistics_rows: int | None = Field(None, ge=1)
    """Maximum number of rows for statistics; of larger data a sample of this size is used, and anomalies in the other
    rows are missed. Default: all rows.
    """
    drop_rows_without_label: bool = False
    """Skip rows whose label is missing. Otherwise such rows are an error."""
    max_broken_fraction: float = Field(0.01, ge=0, lt=1)
    """For images: largest share of the files that may be broken. Broken files are skipped and listed with the reason;
    above this share the run stops with exit code 3.
    """
    max_pixels: int = Field(100_000_000, ge=1)
    """For images: maximum width times height, according to the file's header. A larger image is refused before it is
    decoded, by a run and by the served model alike: a few kilobytes can hold a picture that fills the memory.
    """

    @model_validator(mode="before")
    @classmethod
    def _label_of_images(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("format") == "images":
            return {"label": IMAGE_LABEL, **document}
        return document

    @model_validator(mode="after")
    def _has_a_path_or_a_source(self) -> Self:
        if self.source is None and "path" not in self.model_fields_set:
            raise ValueError(
                "data.path is required: the files of the table; or data.source instead of it. Received: neither"
            )
        if self.source is not None and self.format != "auto":
            raise ValueError(f"data.format applies to files, and data.source yields rows. Received: {self.format}")
        if self.source is None and self.source_options:
            raise ValueError(
                "data.source_options are arguments of data.source. Received: no data.source. Add it, or "
                "remove the options"
            )
        return self

    @model_validator(mode="after")
    def _window_is_of_spans(self) -> Self:
        newest = self.splits.by == "span"
        if (self.window or newest) and (not has_spans(self.path) or self.format == "images" or self.splits.files):
            raise ValueError(
                f"{'data.splits.eval: newest' if newest else 'data.window'} needs a table in spans: a data.path that "
                f"contains "
                f"{{YYYY}}-{{MM}}-{{DD}} or {{SPAN}}. Received: data.path: {self.path or self.source}"
            )
        if newest and (self.window is None or self.window.meant.num_spans == 1):
            raise ValueError(
                "data.splits.eval: newest leaves no span for training if a run uses only the newest. Received: "
                f"data.window: {'nothing' if self.window is None else '{spans: 1}'}. Say {{spans: 28}}, for example"
            )
        return self

    @field_validator("path")
    @classmethod
    def _has_no_password(cls, path: str) -> str:
        if is_web(path) and "${" not in (password := urlsplit(path).password or "${"):
            raise ValueError(
                "a password in the file would be stored in clear text. Received: a URL with one. Refer to it: "
                f"{path.replace(password, '${PASSWORD}', 1)}"
            )
        return path

    @model_validator(mode="after")
    def _keys_fit_the_format(self) -> Self:
        if self.format == "images" and self.drop_rows_without_label:
            raise ValueError("data.drop_rows_without_label does not apply to images. Leave it out")
        return self

    @field_validator("types")
    @classmethod
    def _say_how(cls, types: dict[str, Any]) -> dict[str, Any]:
        for name, stated in types.items():
            if isinstance(stated, dict):
                if len(stated) != 1:
                    raise ValueError(
                        f'a column has one type, {{date: "%d/%m/%Y"}} for example. Received: {name}: {stated}'
                    )
                if not all(stated.values()):
                    raise ValueError(f"a separator of lists needs at least one character. Received: {name}: {stated}")
                if "date" in stated:
                    date_formats.pattern(stated["date"])
        return types

    @property
    def stated_types(self) -> dict[str, Stated]:
        """The entry of `types` for each column."""
        return {
            name: Stated(*next(iter(stated.items()))) if isinstance(stated, dict) else Stated(stated)
            for name, stated in self.types.items()
        }

    @property
    def csv_options(self) -> CsvOptions:
        """The given options of CSV files, for their readers."""
        return CsvOptions(**self.csv.model_dump(), missing_values=self.missing_values)

    @property
    def image_keys(self) -> frozenset[str]:
        """Keys with other values than the default that apply to images only."""
        return self.changed & {"max_broken_fraction", "max_pixels"}


class FeaturesConfig(Section):
    """How columns become features.

    The type and the number of distinct values decide for columns that are not named here.
    """

    numeric: tuple[str, ...] = ()
    """Columns to scale, whatever their number of distinct values."""
    categorical: tuple[str, ...] = ()
    """Columns to treat as categories, integers included."""
    integer_categories: int = Field(20, ge=0)
    """An integer column with at most this many distinct values is categorical, if they are codes. Counts, in which
    small values prevail, and columns of two values stay numbers.
    """
    vocabulary_size: int = Field(1_000, ge=1, le=1_000_000_000)
    """A categorical column with at most this many distinct values gets a vocabulary; with more, its values are
    hashed.
    """
    hash_buckets: int = Field(1_000, ge=2, le=1_000_000_000)
    """Number of hash buckets of each hashed column."""
    category_rows: int = Field(10, ge=1)
    """Minimum number of training rows for the network to distinguish a category. Rarer categories are treated as one,
    since their labels are mostly chance and would be memorized. 1: every category is distinguished.
    """
    date: tuple[str, ...] = ()
    """Columns to treat as dates. Their cells must have been read as dates; `data.types` helps."""
    list: tuple[str, ...] = ()
    """Columns to treat as lists. Their cells must have been read as lists; `data.types` helps."""
    image: tuple[str, ...] = ()
    """The column of a table with the paths of pictures, relative to the table's folder; at most one. By default it is
    the column whose every value is the path of a picture."""
    text: tuple[str, ...] = ()
    """Columns of free text, which are split into words. By default columns with many different cells of several words
    each.
    """
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    types: tuple[str, ...] = ()
    """Column types of your own, as `module:class`; they are tried before those of kubetfx. The module is installed, or
    beside pipeline.yaml; examples/extending/column_type has one."""

    @property
    def type_modules(self) -> tuple[str, ...]:
        """The distinct modules of `types`."""
        return tuple(dict.fromkeys(reference.partition(":")[0] for reference in self.types))

    @property
    def by_role(self) -> dict[str, tuple[str, ...]]:
        """The named columns, by key."""
        return {key: getattr(self, key) for key in ("numeric", "categorical", "date", "list", "text", "image")}

    def names_otherwise(self, column: str, key: str) -> bool:
        """Return whether a column is named under another key.

        Args:
            column: its name.
            key: The key of this section.
        """
        return any(column in names for other, names in self.by_role.items() if other != key)

    @model_validator(mode="after")
    def _one_role_a_column(self) -> Self:
        key_of: dict[str, str] = {}
        for key, names in self.by_role.items():
            for name in names:
                if key_of.setdefault(name, key) != key:
                    raise ValueError(
                        f"a column can have one role only. Received: {name}, under {key_of[name]} and {key}"
                    )
        if len(self.image) > 1:
            raise ValueError(f"a table can have at most one column of images. Received: {', '.join(self.image)}")
        return self


class ValidationConfig(Section):
    """What happens when the data has an anomaly."""

    on_anomaly: AnomalyAction = "stop"
    """`stop` ends the run with exit code 3 before anything is trained."""
    leakage: Literal["warn", "stop", "off"] = "warn"
    """What happens if a column or a sum of columns reveals the label, or if rows of a split are copies of training
    rows. `stop` ends the run, as for an anomaly; `off` disables the check.
    """
    text: Literal["warn", "stop", "off"] = "warn"
    """What happens if texts of a split are in another script or language than those of the training rows, or in no
    language: judged by shares of scripts, unknown words and entropy.
    """
    features: dict[str, AnomalyAction] = {}
    """Another action for single features: for anomalies, for leakage by them, or for their texts."""

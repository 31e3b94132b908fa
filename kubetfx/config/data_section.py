"""The sections `data`, `features` and `validation`: what is read, how columns become features, what an anomaly does."""

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
"""Keys of `validation` for what is found in the rows themselves."""
StatedType = Literal["text", "number", "date", "list"]


class Stated(NamedTuple):
    """What `data.types` says of a column."""

    kind: StatedType
    how: str | None = None
    """The format of its dates, or what separates the values of its lists."""


IMAGE_LABEL = "label"
"""Name of the label of images, where `data.label` gives none: the name of their folder."""


MODEL_OUTPUTS = frozenset({"label", "score", "probabilities", "classes", "value"})
"""Names of what a pushed model returns. No feature may have one of them: a table of rows and predictions has both."""


class Splits(Section):
    """Fractions of the rows, and what decides which rows they are. By default it is a hash of the row's values, so that
    new rows don't move the old ones; copies of a row are spread over the splits."""

    train: float = Field(0.7, ge=0.001, lt=1)
    """Rows that statistics of features are computed on and the network is trained on."""
    validation: float = Field(0.1, ge=0, lt=1)
    """Rows that early stopping and the learning-rate schedule look at. 0: they look at `eval`, and the scores
    flatter."""
    eval: float = Field(0.2, ge=0.001, lt=1)
    """Rows that only the Evaluator sees. `newest`: those of the newest span of `data.window`, and of no other."""
    by: Literal["row", "group", "time", "column", "span"] = "row"
    """`group`: rows with one value of `column`, such as a customer, are in one split. `time`: the oldest rows by
    `column`, a number or text such as 2024-05-01, are for training, the newest for evaluation. `column`: the cells of
    `column` name the split, and the fractions say nothing. `span` is what `eval: newest` means."""
    column: str | None = None
    """By which rows are split, if not by a hash of the row."""
    key: tuple[str, ...] = ()
    """Columns whose values are hashed in place of all: then rows stay in their split whatever becomes of the others."""
    files: dict[Literal["train", "validation", "eval"], str] = {}
    """Files of each split, as globs below `data.path`: `{train: train.csv, eval: test*.csv}`."""

    @model_validator(mode="before")
    @classmethod
    def _the_newest_span_is_for_evaluation(cls, document: Any) -> Any:
        if not isinstance(document, dict) or document.get("eval") != "newest":
            return document
        if "by" in document:
            raise ValueError(f"`eval: newest` says by what rows are split. Received: by: {document['by']} beside it")
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
                f"`by: group`, `time` and `column` need the name of a column, and no other. Received: by: {self.by}, "
                f"column: {self.column}"
            )
        rules = [name for name in ("column", "key", "files") if getattr(self, name)]
        if len(rules) > 1:
            raise ValueError(f"rows are split by one rule. Received: {', '.join(rules)}")
        if self.files and not {"train", "eval"} <= self.files.keys():
            raise ValueError(f"the files of the splits train and eval are needed. Received: {', '.join(self.files)}")
        return self

    @property
    def fractions(self) -> dict[str, float]:
        """Shares of the rows by split, without a split that has none."""
        shares = {"train": self.train, "validation": self.validation, "eval": self.eval}
        return {name: share for name, share in shares.items() if share}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that decide; none: all of them do, or the file."""
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
            raise ValueError(f"the fractions must add up to 1, and add up to {total:g}")
        return self


_OneCharacter = Annotated[str, Field(min_length=1, max_length=1, pattern=r"^[\x00-\x7f]$")]


class CsvConfig(Section):
    """How CSV files are written. What is not said here is found by looking at the beginning of each file."""

    delimiter: _OneCharacter | None = None
    """Between two cells: `,`, `;`, `|`, or another character; `"\\t"` is a tab."""
    decimal: Literal[".", ","] | None = None
    """Between the whole and the fractional part of a number."""
    encoding: str | None = None
    """By a name that Python knows: utf-8, utf-16, cp1252, latin-1, ..."""
    quote: _OneCharacter | Literal[""] | None = None
    """Around a cell that holds a delimiter. Empty: quotes mean nothing."""
    escape: Literal["\\", ""] | None = None
    """Before a quote that is part of a cell within quotes: a backslash, as Spark writes it. Empty: such quotes are
    doubled."""
    header: bool | None = None
    """Whether the first row names the columns. If not, they are `column_1`, `column_2` and so on."""
    skip_rows: int | None = Field(None, ge=0)
    """Lines before the header, or before the first row, to leave out."""
    comment: str | None = Field(None, min_length=1)
    """Lines that begin with this are left out."""

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        try:
            if encoding is not None:
                codecs.getincrementaldecoder(encoding)("replace").decode("text".encode(encoding), final=True)
        except (LookupError, UnicodeError, TypeError):
            raise ValueError(
                f"there is no such encoding of files. Received: {encoding}. Known: utf-8, utf-16, cp1252, latin-1, ..."
            ) from None
        return encoding

    @model_validator(mode="after")
    def _delimiter_is_not_decimal(self) -> Self:
        if self.delimiter is not None and self.delimiter in (self.decimal, self.quote):
            raise ValueError(f"data.csv.delimiter has another meaning too. Received: {self.delimiter!r} twice.")
        return self


class WindowConfig(Section):
    """Which spans of the data a run takes: the newest so many, or those from one to another."""

    model_config = ConfigDict(populate_by_name=True)

    spans: int | None = Field(None, ge=1)
    """The newest so many: with dates the last so many days, with numbers the last so many numbers. Default, without
    `from` and `to`: 1."""
    first: date | int | None = Field(None, alias="from")
    """The first: a date such as 2026-11-01, or a number, as `data.path` has them."""
    last: date | int | None = Field(None, alias="to")
    """The last."""
    done_file: str | None = Field(None, min_length=1, pattern=r"^[^/]+$")
    """Name of a file, such as `_SUCCESS`, that is written into the folder of a span when all of it is there. Spans
    without it are left out."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.spans is not None and (self.first is not None or self.last is not None):
            raise ValueError("a window has `spans`, or `from` and `to`. Received: both")
        if self.first is not None and self.last is not None:
            if type(self.first) is not type(self.last):
                raise ValueError(f"`from` and `to` are both dates or both numbers. Received: {self.first}, {self.last}")
            if self.first > self.last:  # type: ignore[operator]
                raise ValueError(f"a window ends after it begins. Received: from {self.first} to {self.last}")
        return self

    @property
    def meant(self) -> Window:
        """The same, for those who look for files."""
        has_bounds = self.first is not None or self.last is not None
        return Window(None if has_bounds else self.spans or 1, self.first, self.last, self.done_file)


class DataConfig(Section):
    """The table or the images, and what is to be predicted of them."""

    path: str = ""
    """A file, a folder of files, or a glob; also in a bucket: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`. Or a file
    behind `https://` or `http://`, which is fetched at each run; `${TOKEN}` in it is looked up then.
    `{SPAN}`, or `{YYYY}`, `{MM}` and `{DD}`, in it number the parts in which data arrives, and `{VERSION}` their
    editions, as in TFX: the newest is taken, or those of `window`.
    Of images: a folder with a sub-directory a class, or a table with the columns `path` and the label."""
    label: str
    """The column to predict. For images: a column of the table, by default `label`."""
    source: str | None = None
    """A function in place of files, as `module:function`, that yields Arrow record batches or tables. It is asked at
    each run, and unchanged rows are taken from the cache. `kubetfx.tables.sql:read` yields the rows of a query."""
    source_options: dict[str, Any] = {}
    """Arguments of the source, by name. `${NAME}` in them is looked up when the source is asked."""
    format: Literal["auto", "csv", "jsonl", "parquet", "arrow", "orc", "images"] = "auto"
    """`auto` goes by the names of the files: .csv and .tsv, .jsonl and .ndjson, .parquet, .feather and .arrow, .orc.
    `images`: JPEG, PNG, BMP, GIF and WebP."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    splits: Splits = Splits()
    window: WindowConfig | None = None
    """Which spans are taken, where `path` has several: `{spans: 28}` or `{from: 2026-11-01, to: 2026-11-30}`."""
    schema_file: str | None = None
    """A frozen schema (schema.pbtxt of an earlier run). Without one the schema is inferred from the data of the run."""
    csv: CsvConfig = CsvConfig()
    missing_values: tuple[str, ...] = MISSING_VALUES
    """What stands for a missing cell in a CSV file."""
    types: dict[str, StatedType | dict[Literal["date", "list"], str]] = {}
    """What columns hold, where their cells do not say it: `{zip: text, amount: number, day: date, tags: list}`. How
    they hold it: `{day: {date: "%d/%m/%Y"}, created: {date: milliseconds}, tags: {list: ";"}}`."""
    statistics_rows: int | None = Field(None, ge=1)
    """Rows that statistics look at, at most; above it a sample of so many, and anomalies in the other rows are not
    seen. Default: all rows."""
    drop_rows_without_label: bool = False
    """Leave out rows whose label is missing. Otherwise such rows are an error."""
    max_broken_fraction: float = Field(0.01, ge=0, lt=1)
    """For images: share of the files that may be broken. They are left out, and listed with the reason; above it the
    run stops with exit code 3."""
    max_pixels: int = Field(100_000_000, ge=1)
    """For images: width times height at most, as the file's header says. A larger one is refused before it is decoded,
    by a run and by the served model alike: a few kilobytes can hold a picture that fills the memory."""

    @model_validator(mode="before")
    @classmethod
    def _label_of_images(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("format") == "images":
            return {"label": IMAGE_LABEL, **document}
        return document

    @model_validator(mode="after")
    def _has_a_path_or_a_source(self) -> Self:
        if self.source is None and "path" not in self.model_fields_set:
            raise ValueError("data.path is required: the files of the table, or data.source in its place")
        if self.source is not None and self.format != "auto":
            raise ValueError(f"data.format is for files, and data.source yields rows. Received: {self.format}")
        if self.source is None and self.source_options:
            raise ValueError("data.source_options are arguments of data.source, which is not given")
        return self

    @model_validator(mode="after")
    def _window_is_of_spans(self) -> Self:
        newest = self.splits.by == "span"
        if (self.window or newest) and (not has_spans(self.path) or self.format == "images" or self.splits.files):
            raise ValueError(
                f"{'data.splits.eval: newest' if newest else 'data.window'} needs a table in spans, whose path has "
                f"{{YYYY}}-{{MM}}-{{DD}} or {{SPAN}}. Received: data.path: {self.path or self.source}"
            )
        if newest and (self.window is None or self.window.meant.num_spans == 1):
            raise ValueError(
                "data.splits.eval: newest leaves no span for training where a run takes the newest alone. Received: "
                f"data.window: {'nothing' if self.window is None else '{spans: 1}'}. Say {{spans: 28}}, for example"
            )
        return self

    @field_validator("path")
    @classmethod
    def _has_no_password(cls, path: str) -> str:
        if is_web(path) and "${" not in (password := urlsplit(path).password or "${"):
            raise ValueError(
                "a password in the file would be stored in clear. Received: a URL with one. Refer to it: "
                f"{path.replace(password, '${PASSWORD}', 1)}"
            )
        return path

    @model_validator(mode="after")
    def _keys_fit_the_format(self) -> Self:
        if self.format == "images" and self.drop_rows_without_label:
            raise ValueError("data.drop_rows_without_label is not for images")
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
                    raise ValueError(f"a separator of lists has a character at least. Received: {name}: {stated}")
                if "date" in stated:
                    date_formats.pattern(stated["date"])
        return types

    @property
    def stated_types(self) -> dict[str, Stated]:
        """What `types` says of each column."""
        return {
            name: Stated(*next(iter(stated.items()))) if isinstance(stated, dict) else Stated(stated)
            for name, stated in self.types.items()
        }

    @property
    def csv_options(self) -> CsvOptions:
        """What is known of CSV files, for those who read them."""
        return CsvOptions(**self.csv.model_dump(), missing_values=self.missing_values)

    @property
    def image_keys(self) -> frozenset[str]:
        """Keys that were changed and say something of images alone."""
        return self.changed & {"max_broken_fraction", "max_pixels"}


class FeaturesConfig(Section):
    """How columns become features. Columns that are not named go by their type and number of distinct values."""

    numeric: tuple[str, ...] = ()
    """Columns to scale, whatever their number of distinct values."""
    categorical: tuple[str, ...] = ()
    """Columns to treat as categories, integers included."""
    integer_categories: int = Field(20, ge=0)
    """An integer column with at most so many distinct values is categorical, if they are codes: counts, whose small
    values prevail, and columns of two values are numbers."""
    vocabulary_size: int = Field(1_000, ge=1)
    """A categorical column with at most so many distinct values gets a vocabulary; above, its values are hashed."""
    hash_buckets: int = Field(1_000, ge=2)
    """Buckets of each hashed column."""
    category_rows: int = Field(10, ge=1)
    """Training rows that a category needs for the network to distinguish it from others. What rarer ones have in the
    label is chance as often as not, and would be memorized: they are one. 1: every category is distinguished."""
    date: tuple[str, ...] = ()
    """Columns of dates, whatever else they could be. Their cells must have been read as dates; `data.types` helps."""
    list: tuple[str, ...] = ()
    """Columns of lists, whatever else they could be. Their cells must have been read as lists; `data.types` helps."""
    image: tuple[str, ...] = ()
    """The column of a table that says where a picture is, seen from the table's folder; one at most. By default it is
    the column whose every value is the path of a picture."""
    text: tuple[str, ...] = ()
    """Columns of text: what is written in them is read, word by word. By default those of many different cells of
    several words."""
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    types: tuple[str, ...] = ()
    """Column types of your own, as `module:class`; they are asked before kubetfx's. The module is installed, or beside
    pipeline.yaml; examples/extending/column_type has one."""

    @property
    def type_modules(self) -> tuple[str, ...]:
        """The modules of `types`, each once."""
        return tuple(dict.fromkeys(reference.partition(":")[0] for reference in self.types))

    @property
    def by_role(self) -> dict[str, tuple[str, ...]]:
        """Columns that are named, by the key that names them."""
        return {key: getattr(self, key) for key in ("numeric", "categorical", "date", "list", "text", "image")}

    def names_otherwise(self, column: str, key: str) -> bool:
        """Return whether a column is named, under another key.

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
                    raise ValueError(f"a column has one role. Received: {name}, under {key_of[name]} and {key}")
        if len(self.image) > 1:
            raise ValueError(f"a table has one column of images at most. Received: {', '.join(self.image)}")
        return self


class ValidationConfig(Section):
    """What an anomaly of the data does."""

    on_anomaly: AnomalyAction = "stop"
    """`stop` ends the run with exit code 3 before anything is trained."""
    leakage: Literal["warn", "stop", "off"] = "warn"
    """What it does if a column or a sum of columns tells the label, or rows of a split are copies of training rows.
    `stop` ends the run as an anomaly does; `off` does not look for it."""
    text: Literal["warn", "stop", "off"] = "warn"
    """What it does if texts of a split are in another script or language than those of the training rows, or in none:
    by shares of scripts, unknown words and entropy."""
    features: dict[str, AnomalyAction] = {}
    """Another action for single features, of what is said of the label, of leakage by them, or of their texts."""

"""What a column type is.

A type speaks for all of its columns at once: the graph has the same few operations for five columns as for two
thousand, in Transform, in training and in serving.

Nothing here imports TensorFlow, and the types that kubetfx has import it in the methods that need it: SchemaGen and
the check before a run only choose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import CellType, ColumnProfile

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig
    from kubetfx.models.columns.image.pixels import Pixels
    from kubetfx.models.columns.reading import Reading

MISSING_INTEGER = -(2**63)
"""Stands for a missing cell of an integer column where there is no NaN: tf.Example's int64."""


@dataclass(frozen=True)
class Column:
    """A column that the model looks at, as the schema has it."""

    name: str
    type: CellType
    is_optional: bool = False
    """Whether it had missing cells when the schema was made."""
    details: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else its type wrote into the schema: `ColumnType.details`."""

    @property
    def separator(self) -> str | None:
        """Between the values of a cell, where a cell is a list in requests; None: it is one value there too."""
        return self.details.get("separator")


@dataclass(frozen=True)
class Encoding:
    """Keras layers from the features of a type to a vector."""

    inputs: "Mapping[str, keras.KerasTensor]"
    """By name of the feature."""
    vector: "keras.KerasTensor"
    """(batch, any) float32."""
    needs_hidden_layers: bool = True
    """Whether the network has hidden layers by default, if it has no other vector."""


class EmbeddedVocabulary(NamedTuple):
    """A vocabulary of which each value has a row in a weight."""

    vocabulary: str
    """Name of its file."""
    weight: str
    """Name of the layer, a slash, and the name of the weight."""
    first_row: int
    """First row of the first value."""


class ColumnType:
    """A kind of columns: which columns are of it, and what becomes of them.

    A type of one's own is a subclass in a module beside pipeline.yaml, named under `features.types`. It is asked before
    kubetfx's own; docs/decisions/0017-columns.md says why it is made this way.
    """

    tag: ClassVar[str] = ""
    """Tag of a column in the schema. Empty: the type is the user's, and the tag is where it is found."""
    words: ClassVar[str] = ""
    """The report's words for the role of a column. For the user's types it is the name of the class."""
    cells: ClassVar[frozenset[CellType]] = frozenset({"int64", "float", "string"})
    """What its columns can hold. It is not asked about others."""
    embedded_vocabularies: ClassVar[Sequence[EmbeddedVocabulary]] = ()
    """So that a training that starts with served weights finds each value's vector again. Other vocabularies have to be
    the same for that."""
    bounds: ClassVar[frozenset[str]] = frozenset()
    """Details that say how much of a cell is looked at, and not what its features mean: another value is not a reason
    for a training to start again."""
    has_domain: ClassVar[bool] = True
    """Whether the schema lists the values of a column that has few, so that another one is an anomaly."""

    @property
    def reading(self) -> "type[Reading] | None":
        """How its cells are read where they are text, and what a bad cell is. None: they are text."""
        return None

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Return whether a column is of this type.

        Args:
            column: what the scan of the data found, without the distinct values.
            num_rows: rows of the table.
            config: the section `features`; a column that it names has the type that it says.

        Returns:
            The reason in words, or None: it is not.
        """
        raise NotImplementedError

    def details(self, column: ColumnProfile) -> dict[str, str]:
        """Say what `preprocess` has to know of a column, for the schema: such as the format of dates.

        Args:
            column: The column of this type, as the scan found it.

        Returns:
            By a name of lower-case letters; `preprocess` finds it in `Column.details`. A column with a `separator`
            comes as a list of text in requests, and is that list with the separator between its values elsewhere.
        """
        return {}

    def contradiction(self, column: ColumnProfile, details: Mapping[str, str]) -> str | None:
        """Find what a frozen schema says of a column that its cells contradict.

        Args:
            column: as the scan found it.
            details: of the schema.

        Returns:
            What `data.types` would have to say of the column, as YAML; None: nothing.
        """
        return None

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """Turn raw columns into features, for TensorFlow Transform: in training and in the served graph alike.

        Args:
            inputs: the columns of the table, each (batch, 1). A missing cell is NaN, "" or MISSING_INTEGER.
            columns: those of this type, at least one; integers come last.
            config: the section `features`.

        Returns:
            Features of a fixed shape, each (batch, ...), by a name that no other type has: (batch, columns), or of
            cells with several values (batch, columns, values), where 0 is none.
        """
        raise NotImplementedError

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Turn features into a vector, which models/network.py joins with those of the other types.

        Args:
            transform_output: says which features there are, their shapes and vocabularies.
            model: the section `model`.
            features: the section `features`.

        Returns:
            None: there are no columns of this type.
        """
        raise NotImplementedError

    def check_trees(
        self, transform_output: "tft.TFTransformOutput", columns: Sequence[Column], *, config: FeaturesConfig
    ) -> None:
        """Refuse features from which trees can learn nothing. `encode` does the same for the network.

        Args:
            transform_output: says which features there are, their shapes and vocabularies.
            columns: those of this type, as `preprocess` gets them.
            config: the section `features`.

        Raises:
            ConfigError: the features are of no use to trees.
        """

    def for_trees(self, features: "Mapping[str, Any]", columns: Sequence[Column]) -> "dict[str, tf.Tensor]":
        """Return features as trees split them, where these differ from what `preprocess` made.

        Args:
            features: by name, each (batch, ...), those of the other types among them.
            columns: those of this type, as `preprocess` gets them.

        Returns:
            Features by name. Decimal numbers may be NaN, for which each split has a side; whole numbers are categories.
        """
        return {}

    def beside_transform(self, columns: Sequence[Column], *, model: "ModelConfig", max_pixels: int) -> "Pixels | None":
        """Return what becomes of the columns beside TensorFlow Transform, where `preprocess` makes nothing of them.

        Args:
            columns: those of this type, at least one.
            model: the section `model`.
            max_pixels: The maximum number of pixels of a picture.

        Returns:
            Pixels of images; the other types have nothing of the kind.
        """
        return None

    def positions(self, columns: Sequence[Column]) -> dict[str, list[tuple[str, int]]] | None:
        """Find each column among the features; the report shuffles it there to measure its importance.

        Args:
            columns: those of this type, as `preprocess` gets them.

        Returns:
            Names of features, and dimensions of them, by column. None: a feature is of several columns, or that is not
            known; the model is then asked with raw columns, which takes longer.
        """
        return None

    def served_name(self, column: Column) -> str:
        """Return the name of a column in the signature `serving_default`, whose inputs are each (batch,).

        Args:
            column: The column of this type.
        """
        return column.name


def integers_last(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return columns in the order that `preprocess` gets them in.

    Args:
        columns: The columns of one type.
    """
    return tuple(sorted(columns, key=lambda column: column.type == "int64"))


def concatenated(inputs: "Mapping[str, Any]", columns: Sequence[Column], cell_type: CellType) -> "tf.Tensor | None":
    """Put columns of one type of cells side by side.

    Args:
        inputs: the columns of the table, each (batch, 1).
        columns: those of a column type.
        cell_type: of the cells that are wanted.

    Returns:
        (batch, columns) of that type; None if there are none.
    """
    import tensorflow as tf

    names = [column.name for column in columns if column.type == cell_type]
    return tf.concat([inputs[name] for name in names], axis=1) if names else None

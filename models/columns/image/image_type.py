"""Images: decoded to pixels of one size, then a convolutional network, whose feature maps' means are the vector.

An image takes no part in preprocessing: decoding.py decodes its bytes, in training and in the served model alike. What
else only images have depends on this type: augmentation and fine-tuning (pixel_training.py), and the signatures of the
exported model that Grad-CAM and embeddings ask (pixel_signatures.py).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import Column, ColumnType, Encoding

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig
    from kubetfx.models.columns.image.pixels import Pixels


class Image(ColumnType):
    """The encoded bytes of JPEG, PNG, BMP, GIF or WebP. A table has one such column at most."""

    tag = "image"
    words = "image"
    cells = frozenset({"string"})

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Return whether the ExampleGen found files of pictures in it."""
        return column.picture_reason

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """Return no features: an image takes no part in preprocessing."""
        return {}

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Return the mean of each feature map of pixel_network.py's network."""
        from kubetfx.models.columns.image.pixel_network import encode_pixels
        from kubetfx.models.features import raw_schema, read_features

        columns = read_features(raw_schema(transform_output)).by_type
        return encode_pixels(model) if self.tag in columns else None

    def beside_transform(self, columns: Sequence[Column], *, model: "ModelConfig", max_pixels: int) -> "Pixels | None":
        """Return its pixels."""
        from kubetfx.models.columns.image.pixels import Pixels

        (column,) = columns
        return Pixels(column.name, model, max_pixels)

    def served_name(self, column: Column) -> str:
        """Return the column's name with the ending by which REST takes and gives base64."""
        return f"{column.name}_bytes"

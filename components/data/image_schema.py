"""Ranges in the schema of a folder of images, for the facts about each image.

With a frozen schema, the anomaly gate compares new images with these ranges.
"""

from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.artifacts import CONTENT_HASH, IMAGE_PATH
from kubetfx.components.data import table_profile
from kubetfx.models.columns.column_profile import ColumnProfile

ROOM = 2
"""Factor by which new images may be larger or smaller than all earlier ones, in pixels and in bytes."""
BRIGHTNESS_ROOM = 0.1
"""Difference by which they may be darker or brighter, as a fraction of white."""

_UNIQUE = (IMAGE_PATH, CONTENT_HASH)


def set_ranges(schema: schema_pb2.Schema, profile: table_profile.TableProfile) -> None:
    """Write ranges into the schema of a folder of images. Existing ranges stay.

    Args:
        schema: The schema of the facts about each image.
        profile: The profile of ExampleGen.
    """
    for feature in schema.feature:
        if feature.name in _UNIQUE:  # with few images TFDV would take their paths for all possible values
            feature.ClearField("domain_info")
    kept = [domain for domain in schema.string_domain if domain.name not in _UNIQUE]
    del schema.string_domain[:]
    schema.string_domain.extend(kept)
    columns = {column.name: column for column in profile.columns}
    for feature in schema.feature:
        column = columns.get(feature.name)
        if column and feature.WhichOneof("domain_info") is None and column.minimum is not None:
            _set_range(feature, column)


def _set_range(feature: schema_pb2.Feature, column: ColumnProfile) -> None:
    lowest, highest = column.minimum or 0, column.maximum or 0
    if column.name == "brightness":
        feature.float_domain.min = max(round(lowest - BRIGHTNESS_ROOM, 3), 0.0)
        feature.float_domain.max = min(round(highest + BRIGHTNESS_ROOM, 3), 1.0)
    elif column.name == "channels":
        feature.int_domain.min, feature.int_domain.max = int(lowest), int(highest)
    else:
        feature.int_domain.min, feature.int_domain.max = int(lowest) // ROOM, int(highest) * ROOM

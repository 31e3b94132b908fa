"""The schema of images: the encoded bytes, the label, and ranges for what is known of each image.

With a frozen schema the ranges are what the anomaly gate holds new images against.
"""

from collections.abc import Iterable

from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.components.data import table_profile
from kubetfx.components.data.image_files import CONTENT_HASH, IMAGE, PATH
from kubetfx.models import features

ROOM = 2
"""New images may be so many times larger or smaller than all so far, in pixels and in bytes."""
BRIGHTNESS_ROOM = 0.1
"""And so much darker or brighter, as a share of white."""

_UNIQUE = (PATH, CONTENT_HASH)


def complete_image_schema(schema: schema_pb2.Schema, profile: table_profile.TableProfile, *, label: str) -> None:
    """Write into a schema how the columns of images are read. What it already says stays.

    Args:
        schema: of what the statistics are about: every column but the encoded bytes.
        profile: what ExampleGen found.
        label: name of the label's column.
    """
    by_name = {feature.name: feature for feature in schema.feature}
    if IMAGE not in by_name:
        image = schema.feature.add(name=IMAGE, type=schema_pb2.BYTES)
        by_name[IMAGE] = image
    features.set_role(by_name[IMAGE], "image", "the encoded picture; no statistics are computed of it")
    classes = [str(value) for value in profile.column(label).values]
    features.set_role(by_name[label], "label", "the class of an image", classes=classes)
    for name in _UNIQUE:  # few images have few paths, and TFDV takes them for all that there may be
        if name in by_name:
            by_name[name].ClearField("domain_info")
    _remove_domains(schema, _UNIQUE)
    for name, feature in by_name.items():
        column = next((column for column in profile.columns if column.name == name), None)
        if column and feature.WhichOneof("domain_info") is None and column.minimum is not None:
            _set_range(feature, column)
    features.set_representations(schema)


def _set_range(feature: schema_pb2.Feature, column: table_profile.Column) -> None:
    lowest, highest = column.minimum or 0, column.maximum or 0
    if column.name == "brightness":
        feature.float_domain.min = max(round(lowest - BRIGHTNESS_ROOM, 3), 0.0)
        feature.float_domain.max = min(round(highest + BRIGHTNESS_ROOM, 3), 1.0)
    elif column.name == "channels":
        feature.int_domain.min, feature.int_domain.max = int(lowest), int(highest)
    else:
        feature.int_domain.min, feature.int_domain.max = int(lowest) // ROOM, int(highest) * ROOM


def _remove_domains(schema: schema_pb2.Schema, names: Iterable[str]) -> None:
    kept = [domain for domain in schema.string_domain if domain.name not in names]
    del schema.string_domain[:]
    schema.string_domain.extend(kept)

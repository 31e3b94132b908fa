"""A component of one's own between two of ours: bounds that only people know, put into the schema before it is used."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema

import kubetfx


@component
def BoundedSchema(schema: InputArtifact[Schema], bounded_schema: OutputArtifact[Schema]):
    """A penguin weighs between 1 and 8 kg: a row that says otherwise is an anomaly."""
    bounded = text_format.Parse(Path(schema.uri, "schema.pbtxt").read_text(), schema_pb2.Schema())
    (mass,) = (feature for feature in bounded.feature if feature.name == "body_mass_g")
    mass.int_domain.CopyFrom(schema_pb2.IntDomain(min=1_000, max=8_000))
    Path(bounded_schema.uri, "schema.pbtxt").write_text(text_format.MessageToString(bounded))


class WithBounds(kubetfx.Definition):
    """Our pipeline, with one component more."""

    def schema(self, examples, statistics):
        """What SchemaGen found, and the bounds."""
        inferred = super().schema(examples, statistics)
        return self.add(BoundedSchema(schema=inferred)).outputs["bounded_schema"]


def create_pipeline(config):
    """What pipeline.yaml names as `definition`."""
    return WithBounds(config).pipeline()

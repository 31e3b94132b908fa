"""The section `serving`: where a model is pushed, and the server that verifies a push."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from kubetfx.config.section import Name, Section


class EndpointConfig(Section):
    """The server that watches the push directory.

    With one, a push is verified: the server must report the version AVAILABLE, and its answers for rows of the
    evaluation split over REST and gRPC must match the offline predictions.
    """

    rest: Annotated[str, Field(pattern=r"^https?://[^/\s]+(/\S*)?$")] | None = None
    """For example http://localhost:8501."""
    grpc: Annotated[str, Field(pattern=r"^[^/\s]+:[0-9]+$")] | None = None
    """HOST:PORT, for example localhost:8500."""
    timeout_seconds: float = Field(120, gt=0)
    """Time for the server to make a version available, and the same time again to return to the old one."""
    golden_rows: int = Field(32, ge=1, le=10_000)
    """Number of rows of the evaluation split that are sent to the server, each over REST and over gRPC."""
    models_config: str | None = None
    """The server's file of models (`--model_config_file`), if it has one. Labels are written into
    it, so that they outlive the server. Without it they are set over gRPC only."""
    base_path: str | None = None
    """The path of the push directory on the server, if it differs from the path here."""
    tolerance: float = Field(1e-4, gt=0)
    """Largest allowed difference: of a probability, absolute; of a regression's value, as a share of the value or, if
    that is larger, of the standard deviation of the golden rows' values.
    """

    @field_validator("rest", "grpc")
    @classmethod
    def _port_is_one(cls, address: str | None) -> str | None:
        if address:
            try:
                urlsplit(address if "://" in address else f"//{address}").port  # noqa: B018 - it raises
            except ValueError as error:
                raise ValueError(f"{error}. Received: {address}") from None
        return address

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if self.rest is None and self.grpc is None:
            raise ValueError("serving.endpoint needs rest (http://HOST:PORT), grpc (HOST:PORT), or both")
        return self


STABLE = "stable"
"""The label of the version that clients should request."""


class CanaryConfig(Section):
    """Labels of versions: a verified push gets the label `canary`, and a promotion gives it the label `stable`.

    Clients request a label: /v1/models/NAME/labels/stable.
    """

    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = "canary"
    """Label of the newest verified version."""
    share_rows: float = Field(0.1, gt=0, le=1)
    """Share of the evaluation rows that are sent to the server: the canary's answers must match the offline
    predictions, and a promotion compares its answers and latencies with those of the stable version. At least
    endpoint.golden_rows, at most 10,000.
    """
    minutes: float = Field(30, ge=0)
    """Minimum time as the canary before a version is promoted, unless the promotion is forced."""

    @field_validator("label")
    @classmethod
    def _is_not_stable(cls, label: str) -> str:
        if label == STABLE:
            raise ValueError(
                f"the label {STABLE!r} is reserved for the promoted version. Received: {label}. Try canary"
            )
        return label


class ServingConfig(Section):
    """Where a model is pushed and served."""

    model_name: Name | None = None
    """Name under which clients request the model. Default: the pipeline's name."""
    push_directory: str | None = None
    """TensorFlow Serving's model base path: each push is a new numbered folder in it; also in a bucket:
    `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`. Default: in the workspace."""
    keep_versions: int | None = Field(None, ge=1)
    """Number of versions to keep; a push removes older ones, but never one that is served. Default: all."""
    warmup_rows: int = Field(8, ge=0)
    """Number of rows of the training split that are written into the model as warm-up requests and as an example
    request. 0: none.
    """
    weights: Literal["float32", "float16", "int8"] = "float32"
    """Precision of a pushed model's weights: half the bytes, or a quarter. They are rounded after the training; the
    effect is measured, and shown in the report. Not available for models that take pictures.
    """
    endpoint: EndpointConfig | None = None
    """The server that verifies a push. Default: a push is done when the version is in the push directory."""
    canary: CanaryConfig | None = None
    """Labels for versions, so that a new version can be tried beside the stable one. Needs `endpoint`. Default: no
    labels; the newest version is served."""
    approval: Literal["none", "required"] = "none"
    """required: a pushed version waits, invisible to servers, until a person approves it."""

    @model_validator(mode="after")
    def _canary_has_a_server(self) -> Self:
        if self.canary is None:
            return self
        if self.endpoint is None:
            raise ValueError(
                "serving.canary needs a server for its labels. Received: no serving.endpoint. Add it, "
                "{grpc: HOST:PORT} for example, or leave canary out"
            )
        if self.endpoint.grpc is None and self.endpoint.models_config is None:
            raise ValueError(
                "serving.canary sets labels over gRPC or in the server's file of models. Received: serving.endpoint "
                "with neither grpc nor models_config. Add one of them"
            )
        return self

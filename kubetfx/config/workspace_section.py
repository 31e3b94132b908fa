"""The section `workspace`: where the runs of a pipeline keep their outputs, and how many runs are kept."""

from typing import Self

from pydantic import Field, model_validator

from kubetfx.config.section import Section
from kubetfx.storage import is_url


class WorkspaceConfig(Section):
    """Folder of artifacts, metadata and logs."""

    path: str | None = None
    """The folder; or `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`, for the artifacts alone. Default: .kubetfx/NAME
    beside pipeline.yaml."""
    local: str | None = None
    """With `path` in a bucket: folder of this machine for metadata, records, logs, and copies of artifacts. Default:
    .kubetfx/NAME beside pipeline.yaml."""
    keep: int | None = Field(None, ge=1)
    """Number of runs to keep: older ones are removed after each run, as by `kubetfx prune`. Default: all."""

    @model_validator(mode="after")
    def _local_is_beside_a_bucket(self) -> Self:
        if self.local is not None and not is_url(self.path or ""):
            raise ValueError(
                f"workspace.local is for a workspace in a bucket. Received: workspace.path: {self.path}. Leave "
                "workspace.local out"
            )
        return self

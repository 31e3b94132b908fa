"""The section `workspace`: where the runs of a pipeline keep what they make, and how much of it."""

from pydantic import Field

from kubetfx.config.section import Section


class WorkspaceConfig(Section):
    """Folder of artifacts, metadata and logs."""

    path: str | None = None
    """The folder. Default: .kubetfx/NAME beside pipeline.yaml."""
    keep: int | None = Field(None, ge=1)
    """Runs to keep: older ones are removed after each run, as `kubetfx prune` does it. Default: all."""

"""The section `workspace`: where the runs of a pipeline keep their outputs, and how many runs are kept."""

from pydantic import Field

from kubetfx.config.section import Section


class WorkspaceConfig(Section):
    """Folder of artifacts, metadata and logs."""

    path: str | None = None
    """The folder. Default: .kubetfx/NAME beside pipeline.yaml."""
    keep: int | None = Field(None, ge=1)
    """Number of runs to keep: older ones are removed after each run, as by `kubetfx prune`. Default: all."""

"""TFX's compiled pipeline of the last run, kept in the workspace: an unchanged run need not put it together again.

To put a pipeline together is to import every component with its libraries, which takes longer than to find that each
node is in the cache.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.pipeline.code_digest import code_digest

if TYPE_CHECKING:
    from tfx.proto.orchestration import pipeline_pb2

PIPELINE = "pipeline.binpb"
KEY = "pipeline.key"
_CODE = ("components", "config", "models", "pipeline")


def key_of(config: PipelineConfig) -> str | None:
    """What a compiled pipeline depends on; None if that cannot be told without putting it together.

    A module of the user's may import others of his, and a frozen schema is a file.
    """
    if config.own_modules or config.data.schema_file:
        return None
    places = [  # a workspace may have been moved
        place.absolute() if isinstance(place, Path) else place for place in (config.workspace_path, config.push_path)
    ]
    text = f"{code_digest(_CODE)} {places} {config.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def load(workspace: Path, key: str | None) -> "pipeline_pb2.Pipeline | None":
    """The compiled pipeline, if it is there and was made of the same."""
    path, key_path = workspace / PIPELINE, workspace / KEY
    if key is None or not path.is_file() or not key_path.is_file() or key_path.read_text() != key:
        return None
    from tfx.proto.orchestration import pipeline_pb2

    return pipeline_pb2.Pipeline.FromString(path.read_bytes())


def save(workspace: Path, key: str | None, pipeline: "pipeline_pb2.Pipeline") -> None:
    """Keep it for the next run. The key is written last."""
    (workspace / KEY).unlink(missing_ok=True)
    if key is not None:
        (workspace / PIPELINE).write_bytes(pipeline.SerializeToString(deterministic=True))
        (workspace / KEY).write_text(key)

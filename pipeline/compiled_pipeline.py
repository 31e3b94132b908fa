"""TFX's compiled pipeline of the last run, kept in the workspace, so that an unchanged run need not compile it again.

Compiling imports every component with its libraries, which takes longer than finding each node in the cache.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubetfx.code_digest import code_digest
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.storage import write_text

if TYPE_CHECKING:
    from tfx.proto.orchestration import pipeline_pb2

_PIPELINE = "pipeline.binpb"
_KEY = "pipeline.key"
_CODE = ("components", "config", "models", "pipeline")


def key_of(config: PipelineConfig) -> str | None:
    """Return a digest of the inputs of a compiled pipeline.

    Args:
        config: The config of the pipeline.

    Returns:
        The digest; None if the pipeline depends on files whose content is not in the config: a frozen schema, a
        pretrained encoder, or modules of the user's, which may import others.
    """
    if config.own_modules or config.data.schema_file or config.features.text_encoder.pretrained:
        return None
    places = [  # a workspace may have been moved
        place.absolute() if isinstance(place, Path) else place for place in (config.workspace_path, config.push_path)
    ]
    text = f"{code_digest(_CODE)} {places} {config.artifacts.root} {config.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def load(workspace: Path, key: str | None) -> "pipeline_pb2.Pipeline | None":
    """Read the compiled pipeline of the last run.

    Args:
        workspace: The workspace of the pipeline.
        key: as `key_of` gives it.

    Returns:
        The pipeline; None if there is none, or it was compiled under another key.
    """
    path, key_path = workspace / _PIPELINE, workspace / _KEY
    if key is None or not path.is_file() or not key_path.is_file() or key_path.read_text() != key:
        return None
    from tfx.proto.orchestration import pipeline_pb2

    return pipeline_pb2.Pipeline.FromString(path.read_bytes())


def save(workspace: Path, key: str | None, pipeline: "pipeline_pb2.Pipeline") -> None:
    """Keep a compiled pipeline for the next run.

    The key is written last, and both atomically, since nodes of a run may do so at the same time.

    Args:
        workspace: The workspace of the pipeline.
        key: as `key_of` gives it; with None nothing is kept.
        pipeline: to keep.
    """
    (workspace / _KEY).unlink(missing_ok=True)
    if key is not None:
        aside = workspace / f".{_PIPELINE}.{os.getpid()}.partial"
        aside.write_bytes(pipeline.SerializeToString(deterministic=True))
        aside.rename(workspace / _PIPELINE)
        write_text(workspace / _KEY, key)

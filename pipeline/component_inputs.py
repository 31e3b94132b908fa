"""The inputs of components besides sections of the config.

These are digests of the user's own code, so that an edit invalidates the cache, the frozen schema, and the rule of
cross-validation.
"""

import hashlib
from pathlib import Path

from google.protobuf import text_format
from pydantic import ValidationError
from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.artifacts import EVAL, VALIDATION
from kubetfx.components.data.folds import FoldRule
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.config.faults import describe_faults
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError
from kubetfx.storage import locate
from kubetfx.user_code import found_file_of


def read_frozen_schema(config: PipelineConfig) -> str | None:
    """Return the text of the frozen schema; None if there is none.

    As a property of its node it is part of the cache's key.

    Args:
        config: The config of the pipeline.

    Raises:
        ConfigError: it cannot be read.
    """
    if config.data.schema_file is None:
        return None
    path = Path(config.data.schema_file)
    try:
        text = path.read_text(encoding="utf-8")
        text_format.Parse(text, schema_pb2.Schema())
    except OSError as error:
        raise ConfigError(f"data.schema_file cannot be read: {error}.") from None
    except text_format.ParseError as error:
        raise ConfigError(f"data.schema_file is not a schema. Received: {path}, where {error}.") from None
    return text


def digest_of_training(config: PipelineConfig) -> dict[str, str]:
    """Return the digest of the user's own loss and callbacks, as an entry for the Trainer; no entry if there are none.

    Args:
        config: The config of the pipeline.

    Raises:
        ConfigError: a module cannot be found.
    """
    names = [name for name in (config.training.loss, *config.training.callbacks) if name]
    modules = sorted({name.partition(":")[0] for name in names})
    return {"training_digest": "".join(map(module_digest, modules))} if modules else {}


def state_of_encoder(config: PipelineConfig) -> dict[str, str]:
    """Return the state of the files of a pretrained encoder, as an entry for Transform and the Trainer.

    There is no entry if there is no encoder, or this machine does not see it.

    Args:
        config: The config of the pipeline.

    Raises:
        StorageError: the bucket cannot be read.
    """
    if config.features.text_encoder.pretrained is None:
        return {}
    folder = locate(config.features.text_encoder.pretrained)
    if isinstance(folder, Path):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        states = [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    else:
        states = [(found.path.relative_to(folder), found.num_bytes, found.modified_ns) for found in folder.files()]
    return {"encoder_state": hashlib.sha256(repr(states).encode()).hexdigest()} if states else {}


def fold_rule(config: PipelineConfig) -> FoldRule | None:
    """Return the rule of cross-validation, or None.

    Args:
        config: The config of the pipeline.

    Raises:
        ConfigError: the folds contradict `data.splits`, which groups rows.
    """
    folds, splits = config.evaluation.cross_validation, config.data.splits
    if folds is None:
        return None
    try:
        resolved = folds.resolved(splits, config.model.task)
    except ValidationError as error:
        raise ConfigError(
            f"evaluation.cross_validation does not go with data.splits: by: {splits.by}, whose column the folds take "
            "over:",
            faults=describe_faults(error, type(folds)),
        ) from None
    share = splits.validation / (splits.train + splits.validation)
    of_the_mean = (EVAL, *([VALIDATION] if config.evaluation.calibrate else []))
    return FoldRule(
        folds=resolved,
        validation=round(share, 6),
        seed=config.training.seed,
        without=of_the_mean if config.model.ensemble == "folds" else (),
    )


def metrics_digest(config: PipelineConfig) -> str:
    """Return the digest of the modules of the user's own metrics, empty if there are none. Each metric is looked up.

    Args:
        config: The config of the pipeline.

    Raises:
        ConfigError: a module cannot be found, or there is no such metric in it.
    """
    digests = []
    for name in config.evaluation.own_metrics:
        find_metric(name, task=config.model.task)
        digests.append(module_digest(name.partition(":")[0]))
    return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""


def module_digest(module: str) -> str:
    """Return the digest of a module's file, and of its neighbours if it is beside pipeline.yaml.

    Args:
        module: its name.

    Raises:
        ConfigError: it cannot be found.
    """
    own_file = found_file_of(module)
    is_beside_config = "." not in module
    files = sorted(own_file.parent.glob("*.py")) if is_beside_config else [own_file]  # it may import its neighbours
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

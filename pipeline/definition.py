"""create_pipeline(config): the only place where components are put together. Every runner takes its result."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.trainer.component import Trainer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2

from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.components.anomaly_gate import AnomalyGate
from kubetfx.components.evaluator import Evaluator
from kubetfx.components.example_gen import TableExampleGen
from kubetfx.components.example_validator import ExampleValidator
from kubetfx.components.image_example_gen import ImageExampleGen
from kubetfx.components.pusher import Pusher
from kubetfx.components.report.component import Report
from kubetfx.components.report.facts import Settings
from kubetfx.components.schema_gen import SchemaGen
from kubetfx.components.served_model_resolver import ServedModelResolver
from kubetfx.components.statistics_gen import StatisticsGen
from kubetfx.components.transform import Transform
from kubetfx.config.model import DEFAULT_MODULE
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError
from kubetfx.models.image import check_backbone

IMAGE_MODULE = "kubetfx.models.image"


def create_pipeline(config: PipelineConfig) -> Pipeline:
    """The TFX pipeline that a config describes.

    Raises:
        ConfigError: the frozen schema or the user's module cannot be read.
    """
    if config.model.backbone is not None:
        check_backbone(config.model.backbone)
    is_image = config.model.kind == "image"
    module = IMAGE_MODULE if is_image else config.model.module or DEFAULT_MODULE
    custom_config: dict[str, Any] = {
        "features": config.features.model_dump(mode="json"),
        "module_digest": _module_digest(module),  # so that an edit of the module is not taken from the cache
    }
    example_gen = ImageExampleGen(config.data) if is_image else TableExampleGen(config.data)
    examples = example_gen.outputs["examples"]
    statistics = StatisticsGen(examples, max_rows=config.data.statistics_rows).outputs["statistics"]
    schema_gen = SchemaGen(
        statistics,
        examples,
        label=config.data.label,
        task=config.model.task,
        features=config.features,
        frozen_schema=_read_frozen_schema(config),
    )
    example_validator = ExampleValidator(statistics=statistics, schema=schema_gen.outputs["schema"])
    gate = AnomalyGate(
        example_validator.outputs["anomalies"], schema_gen.outputs["schema"], validation=config.validation
    )
    schema = gate.outputs["approved_schema"]
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=f"{module}.preprocessing_fn",
        custom_config=custom_config,
        materialize=False,
        disable_statistics=True,
    )
    trainer = Trainer(
        run_fn="kubetfx.models.image_training.run_fn" if is_image else "kubetfx.models.training.run_fn",
        examples=examples,
        schema=schema,
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=[TRAIN]),
        eval_args=trainer_pb2.EvalArgs(splits=[VALIDATION if config.data.splits.validation else EVAL]),
        custom_config={
            **custom_config,
            "model": config.model.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json"),
            "warmup_rows": config.serving.warmup_rows,
            **({"max_pixels": config.data.max_pixels} if is_image else {}),
        },
    )
    model = trainer.outputs["model"]
    push_directory = str(config.push_path)
    resolver = ServedModelResolver(model, push_directory=push_directory)
    evaluator = Evaluator(
        examples,
        model,
        resolver.outputs["served_model"],
        schema,
        transform.outputs["transform_graph"],
        evaluation=config.evaluation,
        task=config.model.task,
        golden_rows=config.serving.endpoint.golden_rows if config.serving.endpoint else 0,
    )
    pusher = Pusher(
        model,
        evaluator.outputs["blessing"],
        evaluator.outputs["evaluation"],
        push_directory=push_directory,
        model_name=config.model_name,
        endpoint=config.serving.endpoint,
        keep_versions=config.serving.keep_versions,
    )
    report = Report(
        {
            "examples": examples,
            "statistics": statistics,
            "schema": schema,
            "anomalies": example_validator.outputs["anomalies"],
            "model": model,
            "evaluation": evaluator.outputs["evaluation"],
            "served_model": resolver.outputs["served_model"],
            "pushed_model": pusher.outputs["pushed_model"],
        },
        settings=Settings.of(config),
    )
    components: list[Any] = [
        example_gen,
        statistics.producer_component,
        schema_gen,
        example_validator,
        gate,
        transform,
        trainer,
        resolver,
        evaluator,
        pusher,
        report,
    ]
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.workspace_path / "artifacts"),
        components=components,
        enable_cache=True,
        metadata_connection_config=_metadata_in(config.workspace_path),
        beam_pipeline_args=config.beam.options,
    )


def _metadata_in(workspace: Path) -> metadata_store_pb2.ConnectionConfig:
    """ML Metadata in a workspace. TFX's own function makes the folder, of which a package has no need."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace / "metadata.sqlite")
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return config


def _read_frozen_schema(config: PipelineConfig) -> str | None:
    """The text of the frozen schema: as a property of its node it is part of the cache's key."""
    if config.data.schema_file is None:
        return None
    path = Path(config.data.schema_file)
    try:
        text = path.read_text(encoding="utf-8")
        text_format.Parse(text, schema_pb2.Schema())
    except OSError as error:
        raise ConfigError(f"data.schema_file cannot be read: {error}.") from None
    except text_format.ParseError as error:
        raise ConfigError(f"data.schema_file is no schema. Received: {path}, where {error}.") from None
    return text


def _module_digest(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"model.module cannot be imported. Received: {module}. It is looked for beside pipeline.yaml too."
        )
    own_file = Path(spec.origin)
    is_beside_config = "." not in module
    files = sorted(own_file.parent.glob("*.py")) if is_beside_config else [own_file]  # it may import its neighbours
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

"""TFX as its guides teach it: the components in their order, a module file, LocalDagRunner with its defaults.

    python -m benchmarks.peers.tfx_taught WORK.json OUTPUT_FOLDER             # runs the pipeline
    python -m benchmarks.peers.tfx_taught WORK.json OUTPUT_FOLDER --result    # afterwards: scores and seconds

After tfx/examples/penguin/penguin_pipeline_local.py: CsvExampleGen, StatisticsGen, SchemaGen, ExampleValidator,
Transform, Trainer, a Resolver for the latest blessed model, Evaluator, Pusher. Beam runs in memory, which is its
fastest mode on the tables measured here.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.peers import work as works

MODULE = Path(__file__).parent / "tfx_module.py"
_METRICS = {
    "accuracy": "SparseCategoricalAccuracy",
    "cross_entropy": "SparseCategoricalCrossentropy",
    "auc": "AUC",
    "auc_precision_recall": "AUCPrecisionRecall",
}


def run(work: works.Work, output: Path) -> None:
    """Build the pipeline and run it."""
    import tensorflow_model_analysis as tfma
    from tensorflow_model_analysis.proto import config_pb2
    from tfx import v1 as tfx

    (csv_path,) = Path(work.folder).glob("*.csv")
    with csv_path.open() as file:
        num_rows = sum(1 for _ in file) - 1
    splits = [
        tfx.proto.SplitConfig.Split(name=name, hash_buckets=tenths)
        for name, tenths in (("train", works.TRAIN), ("validation", works.VALIDATION), ("eval", works.EVAL))
    ]
    example_gen = tfx.components.CsvExampleGen(
        input_base=work.folder,
        output_config=tfx.proto.Output(split_config=tfx.proto.SplitConfig(splits=splits)),
    )
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"], infer_feature_shape=True)
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    custom_config = {"work": asdict(work)}
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        module_file=str(MODULE),
        custom_config=custom_config,
    )
    steps_an_epoch = max(1, num_rows * works.TRAIN // 10 // work.batch_size)
    trainer = tfx.components.Trainer(
        module_file=str(MODULE),
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema_gen.outputs["schema"],
        train_args=tfx.proto.TrainArgs(splits=["train"], num_steps=steps_an_epoch * work.epochs),
        eval_args=tfx.proto.EvalArgs(
            splits=["validation"], num_steps=max(1, num_rows * works.VALIDATION // 10 // work.batch_size)
        ),
        custom_config=custom_config,
    )
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    whole = [tfma.MetricConfig(class_name="ExampleCount")]
    binary: list[tfma.MetricConfig] = []
    for name in work.metrics:
        metric = tfma.MetricConfig(class_name=_METRICS[name], config=json.dumps({"name": name}))
        (binary if name.startswith("auc") else whole).append(metric)
    whole[1].threshold.CopyFrom(
        tfma.MetricThreshold(
            value_threshold=tfma.GenericValueThreshold(lower_bound={"value": 0.0}),
            change_threshold=tfma.GenericChangeThreshold(
                direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -1e-2}
            ),
        )
    )
    metrics_specs = [tfma.MetricsSpec(metrics=whole)]
    if binary:
        metrics_specs.append(
            tfma.MetricsSpec(metrics=binary, binarize=config_pb2.BinarizationOptions(class_ids={"values": [1]}))
        )
    eval_config = tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                signature_name="serving_default",
                label_key="label_xf",
                preprocessing_function_names=["transform_features"],
            )
        ],
        slicing_specs=[tfma.SlicingSpec(), *(tfma.SlicingSpec(feature_keys=[column]) for column in work.slices)],
        metrics_specs=metrics_specs,
    )
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=eval_config,
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(output / "serving"))
        ),
    )
    components = [
        example_gen, statistics_gen, schema_gen, example_validator, transform, trainer, resolver, evaluator, pusher,
    ]  # fmt: skip
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name=work.name,
            pipeline_root=str(output / "root"),
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
                str(output / "metadata.db")
            ),
            components=components,
            beam_pipeline_args=["--direct_running_mode=in_memory", "--direct_num_workers=1"],
        )
    )


def result(output: Path) -> dict[str, dict[str, float]]:
    """Return scores and seconds per node of a finished run.

    Raises:
        SystemExit: no model was pushed.
    """
    import tensorflow_model_analysis as tfma
    from ml_metadata import MetadataStore
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    if not list((output / "serving").glob("*/saved_model.pb")):
        raise SystemExit("TFX pushed no model.")
    (folder,) = (output / "root" / "Evaluator" / "evaluation").iterdir()
    overall = next(record for record in tfma.load_metrics(str(folder)) if not record.slice_key.single_slice_keys)
    metrics = {entry.key.name: entry.value.double_value.value for entry in overall.metric_keys_and_values}
    store = MetadataStore(sqlite_metadata_connection_config(str(output / "metadata.db")))
    types = {execution_type.id: execution_type.name for execution_type in store.get_execution_types()}
    seconds = {
        types[execution.type_id].rpartition(".")[2]: (
            execution.last_update_time_since_epoch - execution.create_time_since_epoch
        )
        / 1_000
        for execution in store.get_executions()
    }
    return {"metrics": metrics, "seconds": seconds}


if __name__ == "__main__":
    if sys.argv[3:] == ["--result"]:
        (Path(sys.argv[2]) / "result.json").write_text(json.dumps(result(Path(sys.argv[2]))))
    else:
        run(works.read(Path(sys.argv[1])), Path(sys.argv[2]))

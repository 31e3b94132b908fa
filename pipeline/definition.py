"""The only place where components are assembled. Every runner takes the result, a TFX pipeline."""

from typing import Any, TypeVar

from tfx.components.trainer.component import Trainer
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import trainer_pb2
from tfx.types.channel import BaseChannel

from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.components.anomaly_gate import AnomalyGate
from kubetfx.components.evaluator import Evaluator
from kubetfx.components.example_gen import ExampleGen
from kubetfx.components.example_validator import ExampleValidator
from kubetfx.components.pusher import Pusher
from kubetfx.components.report.component import Report
from kubetfx.components.report.facts import Settings
from kubetfx.components.schema_gen import SchemaGen
from kubetfx.components.served_model_resolver import ServedModelResolver
from kubetfx.components.statistics_gen import StatisticsGen
from kubetfx.components.transform import Transform
from kubetfx.config.kubeflow_section import FOLD_PREFIX, WARM_START_MODEL
from kubetfx.config.model_section import DEFAULT_MODULE
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.models.columns.image.pixel_network import check_backbone
from kubetfx.pipeline.component_inputs import (
    digest_of_training,
    fold_rule,
    metrics_digest,
    module_digest,
    read_frozen_schema,
    state_of_encoder,
)
from kubetfx.pipeline.fold_nodes import add_folds
from kubetfx.pipeline.placement import in_workspace
from kubetfx.pipeline.tracker_node import add_tracker, written
from kubetfx.user_code import importable

Node = TypeVar("Node", bound=BaseNode)


class Definition:
    """The pipeline that a config describes, one method per step: each adds components and returns their outputs.

    A subclass overrides a step to add its own component before, after or instead of kubetfx's; `add` takes any
    TFX component. See examples/extending/component.
    """

    def __init__(self, config: PipelineConfig, *, in_cluster: bool = False) -> None:
        """Check the parts of the config that only the libraries can check.

        Args:
            config: The config of the pipeline.
            in_cluster: Whether its nodes become tasks, which may run in parallel.

        Raises:
            ConfigError: the backbone does not exist, or a module of the user's cannot be found.
        """
        if config.model.backbone is not None:
            check_backbone(config.model.backbone)
        self.config = config
        self.in_cluster = in_cluster
        self._module = config.model.module or DEFAULT_MODULE
        self._custom_config: dict[str, Any] = {
            "features": config.features.model_dump(mode="json"),
            "module_digest": "".join(map(module_digest, (self._module, *config.features.type_modules))),
            **digest_of_training(config),
            **state_of_encoder(config),
        }
        self._components: list[BaseNode] = []
        self._prefix = ""

    def add(self, component: Node) -> Node:
        """Add a component to the pipeline.

        Args:
            component: any TFX component.

        Returns:
            The same component.
        """
        if self._prefix:
            component.with_id(f"{self._prefix}{component.id}")
        self._components.append(component)
        return component

    def pipeline(self) -> Pipeline:
        """Call all steps, and make a pipeline of their components.

        Returns:
            The pipeline, in the workspace of the config.

        Raises:
            ConfigError: the frozen schema cannot be read.
        """
        self.add_all()
        pipeline = Pipeline(pipeline_name=self.config.name, components=self._components, enable_cache=True)
        return in_workspace(pipeline, self.config)

    def add_all(self) -> None:
        """Call all steps.

        Raises:
            ConfigError: the frozen schema cannot be read.
        """
        examples = self.examples()
        statistics = self.statistics(examples)
        inferred_schema = self.schema(examples, statistics)
        anomalies = self.anomalies(examples, statistics, inferred_schema)
        schema = self.approved_schema(anomalies, inferred_schema)
        transform_graph = self.transform_graph(examples, schema)
        tuned = self.tuning(examples, statistics, schema, transform_graph)
        search = {"tuning": tuned.pop("results")} if tuned else {}
        schema, transform_graph = tuned.pop("schema", schema), tuned.pop("transform_graph", transform_graph)
        of_folds = self.cross_validation(examples, schema, **tuned)
        model = of_folds.pop("model") if "model" in of_folds else self.model(examples, schema, transform_graph, **tuned)
        served_model = self.served_model(model)
        blessing, evaluation = self.evaluation(examples, schema, transform_graph, model, served_model, **of_folds)
        channels = {
            "examples": examples,
            "statistics": statistics,
            "schema": schema,
            "anomalies": anomalies,
            "model": model,
            "evaluation": evaluation,
            "served_model": served_model,
            "pushed_model": self.pushed_model(model, blessing, evaluation),
            **of_folds | search,
        }
        self.tracking(self.report(channels), channels)

    def examples(self) -> BaseChannel:
        """Add the ExampleGen, which reads the data; return the examples, in splits."""
        example_gen = ExampleGen(self.config.data, features=self.config.features)
        return self.add(example_gen.with_id(self.config.example_gen)).outputs["examples"]

    def statistics(self, examples: BaseChannel) -> BaseChannel:
        """Add StatisticsGen.

        Args:
            examples: output of `examples`.

        Returns:
            Statistics of each split.
        """
        statistics_gen = StatisticsGen(
            examples=examples, max_rows=self.config.data.statistics_rows, weight=self.config.training.sample_weight
        )
        return self.add(statistics_gen).outputs["statistics"]

    def schema(self, examples: BaseChannel, statistics: BaseChannel) -> BaseChannel:
        """Add SchemaGen, which determines the type and the role of each column.

        Args:
            examples: output of `examples`.
            statistics: output of `statistics`.

        Returns:
            The schema: inferred from the statistics, or frozen.
        """
        schema_gen = SchemaGen(
            statistics=statistics,
            examples=examples,
            label=self.config.data.label,
            task=self.config.model.task,
            features=self.config.features,
            types_digest="".join(map(module_digest, self.config.features.type_modules)),
            frozen_schema=read_frozen_schema(self.config),
            weight=self.config.training.sample_weight,
        )
        return self.add(schema_gen).outputs["schema"]

    def anomalies(self, examples: BaseChannel, statistics: BaseChannel, schema: BaseChannel) -> BaseChannel:
        """Add ExampleValidator.

        Args:
            examples: output of `examples`.
            statistics: output of `statistics`.
            schema: output of `schema`.

        Returns:
            The anomalies of the data, and leakage of the label.
        """
        validator = ExampleValidator(
            examples=examples,
            statistics=statistics,
            schema=schema,
            leakage=self.config.validation.leakage,
            text=self.config.validation.text,
        )
        return self.add(validator).outputs["anomalies"]

    def approved_schema(self, anomalies: BaseChannel, schema: BaseChannel) -> BaseChannel:
        """Add AnomalyGate, which stops the run at anomalies that the config does not let pass.

        Args:
            anomalies: output of `anomalies`.
            schema: output of `schema`.

        Returns:
            The same schema, which exists only if the gate has let the data pass.
        """
        gate = AnomalyGate(anomalies=anomalies, schema=schema, validation=self.config.validation)
        return self.add(gate).outputs["approved_schema"]

    def cross_validation(
        self, examples: BaseChannel, schema: BaseChannel, **tuned: BaseChannel
    ) -> dict[str, BaseChannel]:
        """Add, per fold, FoldExamples, `transform_graph`, `model` and FoldEvaluator; and CrossValidation of them all.

        Args:
            examples: output of `examples`.
            schema: output of `approved_schema`.
            tuned: output of `tuning`, which the folds are trained with.

        Returns:
            What `add_folds` returns; nothing where the config asks for no folds.

        Raises:
            ConfigError: the folds do not go with `data.splits`.
        """
        if (rule := fold_rule(self.config)) is None:
            return {}

        def train(rows: BaseChannel) -> BaseChannel:
            self._prefix = FOLD_PREFIX
            model = self.model(rows, schema, self.transform_graph(rows, schema), **tuned)
            self._prefix = ""
            return model

        return add_folds(self.config, rule, examples, schema, train=train, add=self.add)

    def transform_graph(self, examples: BaseChannel, schema: BaseChannel) -> BaseChannel:
        """Add Transform.

        Args:
            examples: output of `examples`.
            schema: output of `approved_schema`.

        Returns:
            The graph that computes features from raw columns.
        """
        transform = Transform(
            examples=examples,
            schema=schema,
            preprocessing_fn=f"{self._module}.preprocessing_fn",
            custom_config=self._custom_config,
            materialize=False,
            disable_statistics=True,
        )
        return self.add(transform).outputs["transform_graph"]

    def tuning(
        self, examples: BaseChannel, statistics: BaseChannel, schema: BaseChannel, transform_graph: BaseChannel
    ) -> dict[str, BaseChannel]:
        """Add Tuner, if the config has the section `tuning`.

        Args:
            examples: output of `examples`.
            statistics: output of `statistics`.
            schema: output of `approved_schema`.
            transform_graph: output of `transform_graph`.

        Returns:
            What `add_tuner` returns; nothing without a search.
        """
        if self.config.tuning is None:
            return {}
        from kubetfx.pipeline.tuner_nodes import add_tuner  # Optuna and the training take a second to import

        return add_tuner(
            self.config,
            {"examples": examples, "statistics": statistics, "schema": schema, "transform_graph": transform_graph},
            training_config=self._training_config(),
            validation_split=_validation_split(self.config),
            definition=self,
        )

    def _training_config(self) -> dict[str, Any]:
        """Return the parts of the config that a training reads."""
        return {
            **self._custom_config,
            "model": self.config.model.model_dump(mode="json"),
            "training": self.config.training.model_dump(mode="json") | ({"warm_start": None} if self._prefix else {}),
            "warmup_rows": self.config.serving.warmup_rows,
            "max_pixels": self.config.data.max_pixels,
            **({"is_served": False} if self._prefix else {}),
            **({"calibrate": True} if self.config.calibrates_trainings else {}),
            **({"weights": weights} if (weights := self.config.serving.weights) != "float32" else {}),
        }

    def model(
        self,
        examples: BaseChannel,
        schema: BaseChannel,
        transform_graph: BaseChannel,
        hyperparameters: BaseChannel | None = None,
    ) -> BaseChannel:
        """Add Trainer, and before it WarmStartModel where it starts from the served model.

        Args:
            examples: output of `examples`.
            schema: output of `approved_schema`.
            transform_graph: output of `transform_graph`.
            hyperparameters: output of `tuning`, which is put over the config.

        Returns:
            The trained model.
        """
        starts_warm = self.config.training.warm_start and not self._prefix
        trainer = Trainer(
            run_fn="kubetfx.models.training.run_fn",
            examples=examples,
            schema=schema,
            transform_graph=transform_graph,
            hyperparameters=hyperparameters,
            base_model=self.served_model(None) if starts_warm else None,
            train_args=trainer_pb2.TrainArgs(splits=[TRAIN]),
            eval_args=trainer_pb2.EvalArgs(splits=[_validation_split(self.config)]),
            custom_config=self._training_config(),
        )
        return self.add(trainer).outputs["model"]

    def served_model(self, model: BaseChannel | None) -> BaseChannel:
        """Add ServedModelResolver.

        Args:
            model: output of `model`, so that it runs after the training. None: before it, as WarmStartModel.

        Returns:
            The model that is served now, the baseline of the evaluation; empty if there is none.
        """
        resolver = ServedModelResolver(model=model, push_directory=str(self.config.push_path))
        node = resolver if model else resolver.with_id(WARM_START_MODEL)
        return self.add(node).outputs["served_model"]

    def evaluation(
        self,
        examples: BaseChannel,
        schema: BaseChannel,
        transform_graph: BaseChannel,
        model: BaseChannel,
        served_model: BaseChannel,
        cross_validation: BaseChannel | None = None,
    ) -> tuple[BaseChannel, BaseChannel]:
        """Add Evaluator.

        Args:
            examples: output of `examples`.
            schema: output of `approved_schema`.
            transform_graph: output of `transform_graph`.
            model: output of `model`, the candidate.
            served_model: output of `served_model`, the baseline.
            cross_validation: output of `cross_validation`, whose means thresholds may bound.

        Returns:
            The blessing, and the evaluation that it is based on.
        """
        endpoint = self.config.serving.endpoint
        evaluator = Evaluator(
            examples=examples,
            model=model,
            baseline_model=served_model,
            cross_validation=cross_validation if self.config.evaluation.cross_validated else None,
            schema=schema,
            transform_graph=transform_graph,
            evaluation_config=self.config.evaluation,
            task=self.config.model.task,
            golden_rows=endpoint.golden_rows if endpoint else 0,
            golden_share=self.config.serving.canary.share_rows if self.config.serving.canary else None,
            metrics_digest=metrics_digest(self.config),
        )
        outputs = self.add(evaluator).outputs
        return outputs["blessing"], outputs["evaluation"]

    def pushed_model(self, model: BaseChannel, blessing: BaseChannel, evaluation: BaseChannel) -> BaseChannel:
        """Add Pusher.

        Args:
            model: output of `model`.
            blessing: without which nothing is pushed.
            evaluation: the other output of `evaluation`.

        Returns:
            The pushed model; its properties name the version in the push directory.
        """
        serving = self.config.serving
        pusher = Pusher(
            model=model,
            model_blessing=blessing,
            evaluation=evaluation,
            push_directory=str(self.config.push_path),
            model_name=self.config.model_name,
            endpoint=serving.endpoint,
            keep_versions=serving.keep_versions,
            canary=serving.canary,
            needs_approval=1 if serving.approval == "required" else None,
            config=written(self.config) if self.in_cluster else None,  # else the record of the run has it
        )
        return self.add(pusher).outputs["pushed_model"]

    def report(self, channels: dict[str, BaseChannel]) -> BaseChannel:
        """Add Report, which computes facts from the outputs of all other components.

        Args:
            channels: by the input of the component Report.

        Returns:
            The report.
        """
        report = Report(**channels, settings=Settings.of(self.config))
        return self.add(report).outputs["report"]

    def tracking(self, report: BaseChannel, channels: dict[str, BaseChannel]) -> None:
        """Add Tracker, if the config has the section `tracking` and no runner sends the run.

        Args:
            report: output of `report`.
            channels: what it was made from.
        """
        if self.config.tracking is not None and self.in_cluster:
            add_tracker(self.config, report, channels, add=self.add)


def create_pipeline(config: PipelineConfig, *, in_cluster: bool = False) -> Pipeline:
    """Make the TFX pipeline of kubetfx's own components that a config describes.

    Args:
        config: The config of the pipeline.
        in_cluster: whether it is made for Kubeflow Pipelines, where trials of a search are tasks.

    Returns:
        A pipeline that any runner takes: one of kubetfx's, the compiler for Kubeflow Pipelines, or TFX's own.

    Raises:
        ConfigError: the frozen schema or the user's module cannot be read.
    """
    with importable(config.folder):
        return Definition(config, in_cluster=in_cluster).pipeline()


def _validation_split(config: PipelineConfig) -> str:
    return VALIDATION if config.data.splits.validation else EVAL

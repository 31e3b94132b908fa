"""The section `training`: how the network is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.section import Section


class LearningRateSchedule(Section):
    """How the learning rate falls."""

    kind: Literal["constant", "cosine", "reduce_on_plateau"] = "cosine"
    """`cosine`: from the initial rate to 0 over all epochs. `reduce_on_plateau`: by `factor` after `patience` epochs
    without a better loss."""
    warm_up: float = Field(0, ge=0, lt=1)
    """For `constant` and `cosine`: share of the steps in which the rate rises from 0 to the initial one."""
    factor: float = Field(0.5, gt=0, lt=1)
    """For `reduce_on_plateau`: what the rate is multiplied by."""
    patience: int = Field(3, ge=1)
    """For `reduce_on_plateau`: epochs without a better validation loss."""

    @model_validator(mode="after")
    def _plateaus_have_no_warm_up(self) -> Self:
        if self.kind == "reduce_on_plateau" and self.warm_up:
            raise ValueError(
                f"warm_up is of the kinds constant and cosine. Received: kind: {self.kind}, warm_up: {self.warm_up}. "
                "Leave warm_up out, or choose kind: cosine"
            )
        return self


class EarlyStopping(Section):
    """When training ends before its last epoch. The best weights are restored either way."""

    enabled: bool = True
    """false: all epochs are trained."""
    patience: int = Field(10, ge=1)
    """Epochs without a better validation loss."""
    min_delta: float = Field(0.0, ge=0)
    """Decrease of the validation loss that counts as better, in the loss's own unit."""


class FineTuneConfig(Section):
    """A second phase of training, in which layers of the backbone learn too. Before it they are frozen."""

    from_layer: str | Annotated[int, Field(ge=0)] = 0
    """The first layer of the backbone that learns, by name or number. 0: all of them."""
    epochs: int = Field(10, ge=1)
    """Passes over the training images at most."""
    learning_rate: float = Field(1e-5, gt=0)
    """Initial learning rate."""


class RayConfig(Section):
    """For the launchers `ray` and `rayjob`: the Ray cluster that starts the workers."""

    address: str | None = None
    """For `ray`: `host:6379` of a cluster that this machine belongs to, or `ray://host:10001`. None: what RAY_ADDRESS
    in the environment says, or the cluster on this machine."""
    cpus: float = Field(1, ge=0)
    """Processor cores that Ray sets aside for each process of the training."""
    gpus: float = Field(0, ge=0)
    """GPUs that Ray gives each worker."""
    version: str = "2.60.0"
    """For `rayjob`: Ray's version in the image."""


class DistributionConfig(Section):
    """Who trains together."""

    strategy: Literal["mirrored", "multi_worker", "parameter_server"]
    """Of tf.distribute. `mirrored`: the GPUs of one machine, or where it has none, `workers` parts of its processor.
    `multi_worker`: processes that add up their gradients after each step. `parameter_server`: processes that learn at
    their own pace, and commit to weights that parameter servers keep."""
    workers: int = Field(2, ge=1)
    """Processes that train; of `mirrored` without a GPU, parts of the processor."""
    parameter_servers: int = Field(1, ge=1)
    """For `parameter_server`: processes that keep the weights."""
    scale_learning_rate: bool = False
    """false: batch_size is that of all workers together. true: each worker has a batch of that size, and the learning
    rate is multiplied by the number of workers."""
    launcher: Literal["processes", "ray", "tfjob", "jobset", "statefulset", "rayjob"] = "processes"
    """Who starts the workers. `processes`: the Trainer itself, on its machine or in its pod. `ray`: the nodes of a Ray
    cluster. The others are for Kubeflow, where the Trainer's task creates a TFJob (Kubeflow's training operator v1), a
    JobSet, StatefulSets, which need nothing but Kubernetes, or a RayJob (KubeRay); each worker is a pod like that of
    the Trainer's task."""
    ray: RayConfig = RayConfig()
    directory: str | None = None
    """For the launchers for Kubeflow: a folder on a volume that all pods of the Trainer mount (ReadWriteMany), in which
    the task and its workers hand one another data and model. For `ray`: such a folder that all nodes see. None: they
    see the workspace."""
    timeout: float = Field(600, gt=0)
    """Seconds in which all workers have to come."""
    restarts: int = Field(3, ge=0)
    """How often workers are started again, from the last checkpoint, after one of them has died."""

    @property
    def is_in_cluster(self) -> bool:
        """Whether workers are pods of their own."""
        return self.launcher not in ("processes", "ray")

    @model_validator(mode="after")
    def _fits_its_strategy(self) -> Self:
        if self.strategy != "parameter_server" and "parameter_servers" in self.changed:
            raise ValueError(
                f"parameter_servers are of strategy: parameter_server. Received: strategy: {self.strategy}. Leave "
                "parameter_servers out, or set strategy: parameter_server"
            )
        if self.strategy == "parameter_server" and self.scale_learning_rate:
            raise ValueError(
                "scale_learning_rate is of workers that have a batch together, and those beside parameter servers each "
                "have their own. Received: strategy: parameter_server. Leave scale_learning_rate out, or set strategy: "
                "multi_worker"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_launcher(self) -> Self:
        if self.launcher not in ("ray", "rayjob") and "ray" in self.changed:
            raise ValueError(
                f"ray is of the launchers ray and rayjob. Received: launcher: {self.launcher}. Leave ray out, or set "
                "launcher: ray"
            )
        if self.launcher == "processes":
            return self
        if self.strategy == "mirrored":
            raise ValueError(
                f"mirrored is for the devices of one machine, and needs no other. Received: launcher: "
                f"{self.launcher}. Leave launcher out, or set strategy: multi_worker"
            )
        if self.is_in_cluster and (self.directory is None or not self.directory.startswith("/")):
            raise ValueError(
                f"the launcher {self.launcher} needs directory: a folder on a volume that the Trainer's pods mount, as "
                f"an absolute path. Received: {self.directory!r}. Mount a ReadWriteMany claim "
                "(kubeflow.resources.Trainer.volumes: [{claim: NAME, mount_path: /shared}]), and set directory: "
                "/shared/training"
            )
        return self


class TrainingConfig(Section):
    """How the network is trained."""

    epochs: int = Field(200, ge=1)
    """Passes over the training rows at most."""
    batch_size: int = Field(128, ge=1)
    """Rows per training step."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    """One of Keras' optimizers, with its defaults but for the learning rate."""
    learning_rate: float = Field(1e-3, gt=0)
    """Initial learning rate."""
    average_epochs: float = Field(2, ge=0)
    """Weights that are validated and kept are averages over so many epochs: the validation loss is smooth, and a rate
    that does not fall does no harm. 0: the weights as they are. Of images they are so always."""
    schedule: LearningRateSchedule = LearningRateSchedule()
    early_stopping: EarlyStopping = EarlyStopping()
    loss: str | None = None
    """Your own loss, as `module:name`: a function of labels and predictions, both (rows, ...), to (rows,), or a
    keras.losses.Loss. Labels are indices of classes, of images probabilities (rows, classes), or values. Default: cross
    entropy; of a regression, mean squared error."""
    callbacks: tuple[str, ...] = ()
    """Your own callbacks, as `module:name`: classes derived from keras.callbacks.Callback, made without arguments."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """`balanced`: inversely proportional to the frequency of the class. Or a weight by class name."""
    sample_weight: str | None = None
    """For tables: the column that says how often each row counts, in the loss, the metrics and the statistics. It is no
    feature, and what is predicted needs none."""
    warm_start: Literal["served"] | None = None
    """`served`: the network starts with the weights of the model that is served, where they mean the same: those of
    equal shape, and vectors of categories by their value. What did not fit is in the report. None: with initial
    weights. Trials of a search and folds of cross-validation always start with those."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights, shuffling and dropout."""
    require_gpu: bool | None = None
    """true: the Trainer fails where it finds no GPU, rather than train for days on a CPU. None: only in a cluster, and
    only if `kubeflow.resources.Trainer.gpu` gives it one."""
    mixed_precision: Literal["none", "float16", "bfloat16"] = "none"
    """Numbers that layers compute with; weights stay float32. `float16` for GPUs since Volta, `bfloat16` since
    Ampere."""
    memory_growth: bool = True
    """false: TensorFlow takes all the memory of a GPU at its start."""
    cache_bytes: int = Field(2**30, ge=0)
    """Transformed training rows are kept in memory up to this size, and in files beside the training above it. Decoded
    images are kept up to this size, and decoded in each epoch above it."""
    fine_tune: FineTuneConfig | None = None
    """For images with a backbone that has weights: the second phase. None: the backbone stays as it is."""
    label_smoothing: float = Field(0, ge=0, lt=1)
    """For images: share of the label's probability that is spread over all classes."""
    distribution: DistributionConfig | None = None
    """Train in several processes, or on several devices. None: in one process, on one device."""
    checkpoint_directory: str | None = None
    """Folder of checkpoints, from which a killed training goes on where it was, also within an epoch. Default: in the
    workspace; in a cluster name a mounted volume."""
    checkpoint_seconds: float = Field(60, ge=0)
    """Seconds between two checkpoints, at least. A training that was killed loses so much."""

"""The section `training`: how the network is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.section import Section


class LearningRateSchedule(Section):
    """How the learning rate decreases."""

    kind: Literal["constant", "cosine", "reduce_on_plateau"] = "cosine"
    """`cosine`: from the initial rate to 0 over all epochs. `reduce_on_plateau`: by `factor` after `patience` epochs
    without a better loss."""
    warm_up: float = Field(0, ge=0, lt=1)
    """For `constant` and `cosine`: share of the steps in which the rate rises from 0 to its initial value."""
    factor: float = Field(0.5, gt=0, lt=1)
    """For `reduce_on_plateau`: factor of each reduction."""
    patience: int = Field(3, ge=1)
    """For `reduce_on_plateau`: number of epochs without a better validation loss before a reduction."""

    @model_validator(mode="after")
    def _plateaus_have_no_warm_up(self) -> Self:
        if self.kind == "reduce_on_plateau" and self.warm_up:
            raise ValueError(
                f"warm_up applies to the kinds constant and cosine. Received: kind: {self.kind}, warm_up: "
                f"{self.warm_up}. "
                "Leave warm_up out, or choose kind: cosine"
            )
        return self


class EarlyStopping(Section):
    """When training stops before its last epoch. The best weights are restored in any case."""

    enabled: bool = True
    """false: all epochs are trained."""
    patience: int = Field(10, ge=1)
    """Number of epochs without a better validation loss before training stops."""
    min_delta: float = Field(0.0, ge=0)
    """Minimum decrease of the validation loss that counts as better, in the loss's own unit."""


class FineTuneConfig(Section):
    """A second phase of training, in which layers of the backbone are trained too. Before it they are frozen."""

    from_layer: str | Annotated[int, Field(ge=0)] = 0
    """The first layer of the backbone that is trained, by name or number. 0: all layers are trained."""
    epochs: int = Field(10, ge=1)
    """Maximum number of passes over the training images."""
    learning_rate: float = Field(1e-5, gt=0)
    """Initial learning rate."""


class RayConfig(Section):
    """For the launchers `ray` and `rayjob`: the Ray cluster that starts the workers."""

    address: str | None = None
    """For `ray`: `host:6379` of a cluster that this machine belongs to, or `ray://host:10001`. None: the environment
    variable RAY_ADDRESS, or the cluster on this machine.
    """
    cpus: float = Field(1, ge=0)
    """Processor cores that Ray reserves for each process of the training."""
    gpus: float = Field(0, ge=0)
    """GPUs per worker."""
    version: str = "2.60.0"
    """For `rayjob`: Ray's version in the image."""


class DistributionConfig(Section):
    """How a training is distributed."""

    strategy: Literal["mirrored", "multi_worker", "parameter_server"]
    """Strategy of tf.distribute. `mirrored`: the GPUs of one machine, or, without a GPU, `workers` parts of its
    processor. `multi_worker`: processes that add up their gradients after each step. `parameter_server`: processes that
    train at their own pace, with weights on parameter servers.
    """
    workers: int = Field(2, ge=1)
    """Number of processes that train; for `mirrored` without a GPU, parts of the processor."""
    parameter_servers: int = Field(1, ge=1)
    """For `parameter_server`: number of processes that hold the weights."""
    scale_learning_rate: bool = False
    """false: batch_size is that of all workers together. true: each worker has a batch of that size, and the learning
    rate is multiplied by the number of workers."""
    launcher: Literal["processes", "ray", "tfjob", "jobset", "statefulset", "rayjob"] = "processes"
    """Who starts the workers. `processes`: the Trainer itself, on its machine or in its pod. `ray`: the nodes of a Ray
    cluster. The others are for Kubeflow, where the Trainer's task creates a TFJob (Kubeflow's training operator v1), a
    JobSet, StatefulSets, which need only Kubernetes, or a RayJob (KubeRay); each worker is a pod like that of
    the Trainer's task."""
    ray: RayConfig = RayConfig()
    directory: str | None = None
    """For the launchers for Kubeflow: a folder on a volume that all pods of the Trainer mount (ReadWriteMany), through
    which the task and its workers exchange data and model. For `ray`: such a folder that all nodes see. None: all nodes
    see the workspace.
    """
    timeout: float = Field(600, gt=0)
    """Seconds within which all workers must be connected."""
    restarts: int = Field(3, ge=0)
    """Maximum number of restarts from the last checkpoint after a worker has died."""

    @property
    def is_in_cluster(self) -> bool:
        """Whether workers run in separate pods."""
        return self.launcher not in ("processes", "ray")

    @model_validator(mode="after")
    def _fits_its_strategy(self) -> Self:
        if self.strategy != "parameter_server" and "parameter_servers" in self.changed:
            raise ValueError(
                f"parameter_servers requires strategy: parameter_server. Received: strategy: {self.strategy}. Leave "
                "parameter_servers out, or set strategy: parameter_server"
            )
        if self.strategy == "parameter_server" and self.scale_learning_rate:
            raise ValueError(
                "scale_learning_rate applies to workers that share a batch, and with parameter servers "
                "each worker has its own. Received: strategy: parameter_server. Leave scale_learning_rate out, or set "
                "strategy: "
                "multi_worker"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_launcher(self) -> Self:
        if self.launcher not in ("ray", "rayjob") and "ray" in self.changed:
            raise ValueError(
                f"ray applies to the launchers ray and rayjob only. Received: launcher: {self.launcher}. Leave ray "
                f"out, or set "
                "launcher: ray"
            )
        if self.launcher == "processes":
            return self
        if self.strategy == "mirrored":
            raise ValueError(
                f"mirrored uses the devices of one machine, and no launcher. Received: launcher: "
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
    """Maximum number of passes over the training rows."""
    batch_size: int = Field(128, ge=1)
    """Rows per training step."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    """One of Keras's optimizers, with its defaults except for the learning rate."""
    learning_rate: float = Field(1e-3, gt=0)
    """Initial learning rate."""
    average_epochs: float = Field(2, ge=0)
    """Number of epochs over which weights are averaged before they are validated and kept: the validation loss is
    smoother, and a constant learning rate does no harm. 0: no averaging. For images there is never an average.
    """
    schedule: LearningRateSchedule = LearningRateSchedule()
    early_stopping: EarlyStopping = EarlyStopping()
    loss: str | None = None
    """Your own loss, as `module:name`: a function of labels and predictions, both (rows, ...), to (rows,), or a
    keras.losses.Loss. Labels are class indices, for images class probabilities (rows, classes), or values for a
    regression. Default: cross entropy; for a regression, mean squared error.
    """
    callbacks: tuple[str, ...] = ()
    """Your own callbacks, as `module:name`: subclasses of keras.callbacks.Callback that are created without
    arguments.
    """
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """Weights of the classes in the loss. `balanced`: inversely proportional to the frequency of the class. Or weights
    by class name.
    """
    sample_weight: str | None = None
    """For tables: the column with the weight of each row in the loss, the metrics and the statistics. It is not a
    feature, and rows to predict do not need it.
    """
    warm_start: Literal["served"] | None = None
    """`served`: the network starts with the weights of the served model if they have the same meaning and shape;
    embeddings of categories are matched by value. The report lists what did not fit. None: random initial weights,
    which trials of a search and folds of cross-validation always use.
    """
    seed: int = Field(0, ge=0)
    """Seed of initial weights, shuffling and dropout."""
    require_gpu: bool | None = None
    """true: the Trainer fails without a GPU instead of training for days on a CPU. None: only in a cluster, and only if
    `kubeflow.resources.Trainer.gpu` requests one.
    """
    mixed_precision: Literal["none", "float16", "bfloat16"] = "none"
    """Data type of the layers' computations; weights stay float32. `float16` for GPUs since Volta, `bfloat16` since
    Ampere."""
    memory_growth: bool = True
    """Whether GPU memory is allocated as needed. false: TensorFlow takes all of it at the start."""
    cache_bytes: int = Field(2**30, ge=0)
    """Size up to which transformed training rows are kept in memory; larger data is kept in files beside the training.
    Decoded images are kept up to this size; more are decoded again in each epoch.
    """
    fine_tune: FineTuneConfig | None = None
    """For images with a backbone that has weights: the second phase. None: the backbone stays frozen."""
    label_smoothing: float = Field(0, ge=0, lt=1)
    """For images: label smoothing, the share of the label's probability that is spread over all classes."""
    distribution: DistributionConfig | None = None
    """Train in several processes, or on several devices. None: in one process, on one device."""
    checkpoint_directory: str | None = None
    """Folder of checkpoints, from which a killed training resumes, also within an epoch. Default: in the workspace; in
    a cluster, name a folder on a mounted volume.
    """
    checkpoint_seconds: float = Field(60, ge=0)
    """Minimum number of seconds between two checkpoints: the most that a killed training loses."""

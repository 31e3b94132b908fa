"""The typed tree behind pipeline.yaml, a section per stage, and the only reader of YAML.

Values are checked here as far as they can be without the data; `pipeline/preflight.py` checks them against the data.
Relative paths are relative to the folder of pipeline.yaml.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.errors import ConfigError
from pipeline.storage import Location, is_url, locate

Task = Literal["classification", "regression"]
AnomalyAction = Literal["stop", "warn", "ignore"]

METRICS: Mapping[Task, tuple[str, ...]] = {
    "classification": (
        "accuracy",
        "auc",
        "auc_precision_recall",
        "cross_entropy",
        "f1",
        "precision",
        "recall",
    ),
    "regression": (
        "mean_absolute_error",
        "mean_squared_error",
        "root_mean_squared_error",
        "squared_pearson_correlation",
    ),
}
"""The metrics that `evaluation` knows, by task. components/evaluator.py says how each is computed."""

IMAGE_METRICS = ("top_k_accuracy", "kappa")
"""Metrics of a classifier of images beside those of every classifier, by components/evaluation/image_evaluation.py."""

LOWER_IS_BETTER = frozenset({"cross_entropy", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"})

ROBUSTNESS_PREFIX = "drop_"
"""Of the metrics of the robustness check: `drop_blur_1.5` is the accuracy that a blur of 1.5 pixels costs."""


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of a metric is the better one."""
    return metric in LOWER_IS_BETTER or metric.startswith(ROBUSTNESS_PREFIX)


def worsening(metric: str, value: float, reference: float) -> float:
    """How much worse a value of a metric is than another one; negative where it is better."""
    return (value - reference) * (1 if is_lower_better(metric) else -1)


DEFAULT_MODULE = "models.tabular"
"""The module of the network where `model.module` names none."""

IMAGE_LABEL = "label"
"""Name of the label of images, where `data.label` gives none: the name of their folder."""

MODEL_OUTPUTS = frozenset({"label", "score", "probabilities", "classes", "value"})
"""Names of what a pushed model returns. No feature may have one of them: a table of rows and predictions has both."""

MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")

_TYPE_IN_PATH = re.compile(r"(function-|literal\[|dict\[|tuple\[|str$)")
"""What pydantic puts into a path to say which member of a union it tried."""

COMPONENTS = (
    "TableExampleGen",
    "ImageExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "Trainer",
    "ServedModelResolver",
    "Evaluator",
    "Pusher",
    "Report",
)
"""Ids of the nodes that `pipeline/definition.py` puts together; which ExampleGen it is goes by `data.format`."""

LIGHT_GROUPS = (
    ("StatisticsGen", "SchemaGen", "ExampleValidator", "AnomalyGate"),
    ("ServedModelResolver", "Evaluator", "Pusher", "Report"),
)
"""Neighbouring components whose work is less than the start of their pods."""

_KUBERNETES_RESOURCE = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"


def _quantity(pattern: str, examples: str) -> AfterValidator:
    """A Kubernetes quantity, of the kinds that Kubeflow Pipelines takes."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value) or not re.search(r"[1-9]", value):
            raise ValueError(f"a Kubernetes quantity is needed, such as {examples}. Received: {value!r}")
        return value

    return AfterValidator(check)


def _amount(quantity: str) -> float:
    """A quantity as a number: of cores or bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)(\D*)", quantity).groups()  # type: ignore[union-attr]  # it was checked
    if unit == "m":
        return float(number) / 1000
    base = 1024 if unit.endswith("i") else 1000
    return float(number) * base ** " KMGTPE".index(unit[:1] or " ")


def _as_text(value: Any) -> Any:
    """YAML reads `cpu: 4` as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _absolute_path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"a path in the container, from its root, is needed. Received: {value!r}")
    return value


Cpu = Annotated[str, BeforeValidator(_as_text), _quantity(r"[0-9]*\.?[0-9]+|[0-9]+m", "4, 0.5 or 500m")]
Memory = Annotated[str, BeforeValidator(_as_text), _quantity(r"[0-9]+(Ki|[MGTPE]i?)?", "16Gi, 500Mi or 2G")]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$")]


class Section(BaseModel):
    """A frozen part of the tree that refuses keys it does not know."""

    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _boolean_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes `true` for 1."""
        annotation = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError(f"a number is needed. Received: {str(value).lower()}")
        return value

    @property
    def changed(self) -> frozenset[str]:
        """Keys whose value is not the default. What a file says is not known any more when a node reads its part."""
        fields = type(self).model_fields.items()
        return frozenset(name for name, field in fields if getattr(self, name) != field.get_default())


class Splits(Section):
    """Fractions of the rows. A row's split is decided by a hash of its values, so new rows don't move the old ones."""

    train: float = Field(0.7, ge=0.001, lt=1)
    """Rows that statistics of features are computed on and the network is trained on."""
    validation: float = Field(0.1, ge=0, lt=1)
    """Rows that early stopping and the learning-rate schedule look at. 0: they look at `eval`, and the scores
    flatter."""
    eval: float = Field(0.2, ge=0.001, lt=1)
    """Rows that only the Evaluator sees."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.eval
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"the fractions must add up to 1, and add up to {total:g}")
        return self


class DataConfig(Section):
    """The table or the images, and what is to be predicted of them."""

    path: str
    """A folder of CSV or Parquet files, or a glob; also in a bucket: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`.
    `{SPAN}` and `{VERSION}` in it pick the newest, as in TFX.
    Of images: a folder with a sub-directory a class, or a CSV or Parquet file with the columns `path` and the label."""
    label: str
    """The column to predict. Of images: a column of the CSV or Parquet file, by default `label`."""
    format: Literal["auto", "csv", "parquet", "images"] = "auto"
    """`auto` goes by the names of the files: .csv, .csv.gz, .tsv, .parquet. `images`: JPEG, PNG, BMP, GIF and WebP."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    splits: Splits = Splits()
    schema_file: str | None = None
    """A frozen schema (schema.pbtxt of an earlier run). Without one the schema is inferred from the data of the run."""
    missing_values: tuple[str, ...] = MISSING_VALUES
    """What stands for a missing cell in a CSV file."""
    statistics_rows: int | None = Field(None, ge=1)
    """Rows that statistics look at, at most; above it a sample of so many, and anomalies in the other rows are not
    seen. Default: all rows."""
    drop_rows_without_label: bool = False
    """Leave out rows whose label is missing. Otherwise such rows are an error."""
    max_broken_fraction: float = Field(0.01, ge=0, lt=1)
    """Of images: share of the files that may be broken. They are left out, and listed with the reason; above it the run
    stops with exit code 3."""
    max_pixels: int = Field(100_000_000, ge=1)
    """Of images: width times height at most, as the file's header says. A larger one is refused before it is decoded,
    by a run and by the served model alike: a few kilobytes can hold a picture that fills the memory."""

    @model_validator(mode="before")
    @classmethod
    def _label_of_images(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("format") == "images":
            return {"label": IMAGE_LABEL, **document}
        return document

    @model_validator(mode="after")
    def _keys_fit_the_format(self) -> Self:
        images = {"max_broken_fraction", "max_pixels"}
        tables = {"drop_rows_without_label"}
        for name in sorted((tables if self.format == "images" else images) & self.changed):
            raise ValueError(f"data.{name} is not for {'images' if self.format == 'images' else 'tables'}")
        return self


class FeaturesConfig(Section):
    """How columns become features. Columns that are not named go by their type and number of distinct values."""

    numeric: tuple[str, ...] = ()
    """Columns to scale, whatever their number of distinct values."""
    categorical: tuple[str, ...] = ()
    """Columns to treat as categories, integers included."""
    integer_categories: int = Field(20, ge=0)
    """An integer column with at most so many distinct values is categorical."""
    vocabulary_size: int = Field(1_000, ge=1)
    """A categorical column with at most so many distinct values gets a vocabulary; above, its values are hashed."""
    hash_buckets: int = Field(1_000, ge=2)
    """Buckets of each hashed column."""

    @model_validator(mode="after")
    def _one_role_a_column(self) -> Self:
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise ValueError(f"a column is numeric or categorical, not both: {', '.join(both)}")
        return self


Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Section):
    """How images are changed at random in training, each time anew. A served model does none of it. 0: not at all."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror images of half of them."""
    rotation_degrees: float = Field(0, ge=0, le=180)
    """Turned by at most so much, either way."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0
    """Larger or smaller by at most so much: 0.1 is 10 percent."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0
    """Moved by at most this share of width and height."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0
    """More or less contrast by at most this share."""
    brightness: Share = 0
    """Of colour jitter: brighter or darker by at most this share of white."""
    saturation: Share = 0
    """Of colour jitter: more or less colour by at most this share."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0
    """Of colour jitter: turned round the circle of colours by at most this share of it."""
    noise: Share = 0
    """Standard deviation of the noise at most, as a share of white."""
    cutout: Share = 0
    """Edge of a square that is blanked out at most, as a share of the image's."""
    mixup: Share = 0
    """Alpha of the Beta distribution by which two images and their labels are mixed: 0.2 is usual."""


class ModelConfig(Section):
    """The network."""

    kind: Literal["tabular", "image"] = "tabular"
    """`tabular`: a fully connected network over numeric features and embeddings (models/tabular.py). `image`: a
    convolutional network (models/image.py), for `data.format: images`."""
    image_size: (
        Annotated[int, Field(ge=8, le=4096)]
        | tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]]
    ) = 64
    """Of images: pixels that each is resized to, one number for a square or [height, width]."""
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    """Of images of other proportions: `pad` adds black borders, `crop` takes the middle, `stretch` neither."""
    filters: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Of the small network for images: channels of each block; every block but the first halves the image. Empty: from
    the size."""
    backbone: str | None = None
    """Of images: a network of keras.applications by its class, for example EfficientNetB0. Default: a small one."""
    weights: str = "imagenet"
    """Of a backbone: `imagenet`, `none`, or the path of a .weights.h5 file."""
    augmentation: AugmentationConfig = AugmentationConfig()
    top_k: int = Field(5, ge=1)
    """Of images: most likely classes that a served model names; also what `top_k_accuracy` counts."""
    task: Task = "classification"
    """`classification` for two classes or more, `regression` for a number."""
    module: str | None = None
    """Your own module in place of models.tabular, by import path: installed, or standing beside pipeline.yaml. It has
    the same two functions: preprocessing_fn(inputs, custom_config) and build_model(...)."""
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    """Units of each hidden layer."""
    activation: Literal["elu", "gelu", "leaky_relu", "mish", "relu", "selu", "silu", "tanh"] = "relu"
    """Of the hidden layers, as Keras names it."""
    batch_normalization: bool = False
    """Normalise the activations of each hidden layer over the batch."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of each hidden layer's units that is dropped in training."""
    embedding_size: int = Field(8, ge=1)
    """Dimensions of a categorical value."""

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        image = {"image_size", "resize", "filters", "backbone", "weights", "augmentation", "top_k"}
        tabular = {"activation", "batch_normalization", "embedding_size", "hidden_units", "module"}
        others = tabular if self.kind == "image" else image
        if wrong := sorted(others & self.changed):
            raise ValueError(f"model.{wrong[0]} is not for model.kind: {self.kind}")
        if self.kind == "image" and self.task != "classification":
            raise ValueError(f"model.kind: image classifies. Received: model.task: {self.task}")
        if self.backbone is None and "weights" in self.changed:
            raise ValueError("model.weights are those of a backbone; name one, such as model.backbone: EfficientNetB0")
        if self.backbone is not None and self.filters:
            raise ValueError("model.filters are those of the small network, and model.backbone names another")
        return self

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width that images are resized to, in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size


class LearningRateSchedule(Section):
    """How the learning rate falls."""

    kind: Literal["constant", "cosine", "reduce_on_plateau"] = "cosine"
    """`cosine`: from the initial rate to 0 over all epochs. `reduce_on_plateau`: by `factor` after `patience` epochs
    without a better loss."""
    factor: float = Field(0.5, gt=0, lt=1)
    """Of `reduce_on_plateau`: what the rate is multiplied by."""
    patience: int = Field(3, ge=1)
    """Of `reduce_on_plateau`: epochs without a better validation loss."""


class EarlyStopping(Section):
    """When training ends before its last epoch. The best weights are restored either way."""

    enabled: bool = True
    """false: all epochs are trained."""
    patience: int = Field(10, ge=1)
    """Epochs without a better validation loss."""
    min_delta: float = Field(0.0, ge=0)
    """What counts as better."""


class FineTuneConfig(Section):
    """A second phase of training, in which layers of the backbone learn too. Before it they are frozen."""

    from_layer: str | Annotated[int, Field(ge=0)] = 0
    """The first layer of the backbone that learns, by name or number. 0: all of them."""
    epochs: int = Field(10, ge=1)
    """Passes over the training images at most."""
    learning_rate: float = Field(1e-5, gt=0)
    """Initial learning rate."""


class TrainingConfig(Section):
    """How the network is trained."""

    epochs: int = Field(50, ge=1)
    """Passes over the training rows at most."""
    batch_size: int = Field(128, ge=1)
    """Rows a step."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    """One of Keras' optimizers, with its defaults but for the learning rate."""
    learning_rate: float = Field(1e-3, gt=0)
    """Initial learning rate."""
    schedule: LearningRateSchedule = LearningRateSchedule()
    early_stopping: EarlyStopping = EarlyStopping()
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """`balanced`: inversely proportional to the frequency of the class. Or a weight by class name."""
    seed: int = Field(0, ge=0)
    """Of initial weights, shuffling and dropout."""
    require_gpu: bool | None = None
    """true: the Trainer fails where it finds no GPU, rather than train for days on a CPU. None: only in a cluster, and
    only if `kubeflow.resources.Trainer.gpu` gives it one."""
    mixed_precision: Literal["none", "float16", "bfloat16"] = "none"
    """Numbers that layers compute with; weights stay float32. `float16` for GPUs since Volta, `bfloat16` since
    Ampere."""
    memory_growth: bool = True
    """false: TensorFlow takes all the memory of a GPU at its start."""
    cache_bytes: int = Field(2**30, ge=0)
    """Transformed training rows are kept in memory up to this size, and read again in each epoch above it. So are
    decoded images."""
    fine_tune: FineTuneConfig | None = None
    """Of images with a backbone that has weights: the second phase. None: the backbone stays as it is."""
    label_smoothing: float = Field(0, ge=0, lt=1)
    """Of images: share of the label's probability that is spread over all classes."""
    checkpoint_directory: str | None = None
    """Of images: folder in which a training that is killed finds where it was, to the epoch. Default: in the workspace;
    in a cluster name a mounted volume."""


class ValidationConfig(Section):
    """What an anomaly of the data does."""

    on_anomaly: AnomalyAction = "stop"
    """`stop` ends the run with exit code 3 before anything is trained."""
    features: dict[str, AnomalyAction] = {}
    """Another action for single features."""


class Threshold(Section):
    """Bounds of a metric. A model that misses one is not blessed."""

    at_least: float | None = None
    """Lower bound of the metric's value."""
    at_most: float | None = None
    """Upper bound of the metric's value."""
    worse_by_at_most: float | None = Field(None, ge=0)
    """How much worse than the model that is served now, in the metric's own unit. Passes when nothing is served yet."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_least is None and self.at_most is None and self.worse_by_at_most is None:
            raise ValueError("a threshold needs at_least, at_most or worse_by_at_most")
        return self


class RobustnessConfig(Section):
    """Changes to the images of the evaluation split. What each costs in accuracy is a metric of its own, `drop_` with
    the name and strength of the change, for example drop_blur_1.5; a threshold may bound it."""

    noise: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Standard deviations of noise, as a share of white."""
    blur: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Standard deviations of a Gaussian blur, in pixels of the network's input."""
    rotation: tuple[Annotated[float, Field(gt=0, le=180)], ...] = ()
    """Turns, in degrees."""
    jpeg: tuple[Annotated[int, Field(ge=1, le=100)], ...] = ()
    """Qualities of JPEG compression."""
    fgsm: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Largest change of a pixel, as a share of white, in one step against the label (fast gradient sign method)."""
    max_images: int = Field(1_000, ge=1)
    """Images of the evaluation split that are changed, the first ones."""

    @property
    def metrics(self) -> dict[str, tuple[str, float]]:
        """Kind and strength of each change, by metric."""
        kinds = ("noise", "blur", "rotation", "jpeg", "fgsm")
        return {
            f"{ROBUSTNESS_PREFIX}{kind}_{value:g}": (kind, value) for kind in kinds for value in getattr(self, kind)
        }


class EvaluationConfig(Section):
    """What a model has to reach to be pushed."""

    metrics: tuple[str, ...] = ()
    """Metrics to compute. Empty: all that fit the task."""
    thresholds: dict[str, Threshold] = {}
    """Bounds by metric. Empty: only that the first metric is no more than 0.01 worse than that of the served model."""
    slices: tuple[str | tuple[str, ...], ...] = ()
    """Columns, or combinations of columns, by whose values the metrics are also computed. Of images: the label,
    `image_size`, `format`, `channels`, or a column of the CSV or Parquet file that lists them."""
    robustness: RobustnessConfig = RobustnessConfig()


class CardConfig(Section):
    """What only people know about a model, for its model card. The measured facts are added to it."""

    purpose: str | None = None
    """What the model is for, and who uses its predictions."""
    owner: str | None = None
    """Who answers for it: a team, a person, an address."""
    limits: tuple[str, ...] = ()
    """Where it must not be used, and what it does badly."""
    data_source: str | None = None
    """Where the table comes from, and under which terms."""
    ethics: str | None = None
    """Who could be harmed by a wrong prediction, and what is done about it."""
    license: str | None = None
    """Under which the model may be used."""
    contact: str | None = None
    """Where questions and complaints go."""


class ReportConfig(Section):
    """What the report shows. Nothing here stops a run, and a change of it trains nothing again."""

    drift_threshold: float = Field(0.1, gt=0, le=1)
    """Distance of a column's training rows from those of the previous run from which on it is marked: L-infinity for
    text, Jensen-Shannon divergence for numbers, as TFDV has them."""
    skew_threshold: float = Field(0.1, gt=0, le=1)
    """The same for the distance of the evaluation rows from the training rows."""
    rows: int = Field(20_000, ge=100)
    """Rows of the evaluation split at most, drawn with training.seed, that curves, intervals and importances are
    computed on. The metrics of the verdict are computed on all rows."""


class EndpointConfig(Section):
    """The server that watches the push directory. With one, a push is verified: the server must report the version
    AVAILABLE, and answer rows of the evaluation split over REST and gRPC as they were predicted offline."""

    rest: Annotated[str, Field(pattern=r"^https?://[^/\s]+(/\S*)?$")] | None = None
    """For example http://localhost:8501."""
    grpc: Annotated[str, Field(pattern=r"^[^/\s]+:[0-9]+$")] | None = None
    """HOST:PORT, for example localhost:8500."""
    timeout_seconds: float = Field(120, gt=0)
    """Time that the server has to make a version available, and again to be back on the old one."""
    golden_rows: int = Field(32, ge=1, le=10_000)
    """Rows of the evaluation split to ask the server for, each over REST and over gRPC."""
    tolerance: float = Field(1e-4, gt=0)
    """Largest difference of a probability; of a regression's value, as a share of the value or, where that is larger,
    of the standard deviation of the golden rows' values."""

    @field_validator("rest", "grpc")
    @classmethod
    def _port_is_one(cls, address: str | None) -> str | None:
        if address:
            try:
                urlsplit(address if "://" in address else f"//{address}").port  # noqa: B018 - it raises
            except ValueError as error:
                raise ValueError(f"{error}. Received: {address}") from None
        return address

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if self.rest is None and self.grpc is None:
            raise ValueError("serving.endpoint needs rest (http://HOST:PORT), grpc (HOST:PORT), or both")
        return self


class ServingConfig(Section):
    """Where a model is served from."""

    model_name: Name | None = None
    """Name that clients ask for. Default: the pipeline's name."""
    push_directory: str | None = None
    """TensorFlow Serving's model base path: each push is a new numbered folder in it; also in a bucket:
    `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`. Default: in the workspace."""
    keep_versions: int | None = Field(None, ge=1)
    """Versions to keep; a push removes older ones, but never one that is served. Default: all."""
    warmup_rows: int = Field(8, ge=0)
    """Rows of the training split that are written into the model as warm-up requests, and as an example of a request.
    0: none."""
    endpoint: EndpointConfig | None = None
    """The server that a push is verified with. Default: a push is done when the version is in the push directory."""


class BeamConfig(Section):
    """How the data-parallel nodes run."""

    runner: Literal["DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"] = "DirectRunner"
    """`DirectRunner` is this machine: without `arguments` the nodes go through the data themselves, block by block."""
    arguments: tuple[str, ...] = ()
    """Pipeline options as Beam's command line takes them, for example `--direct_num_workers=2`. With any, the nodes run
    as Beam pipelines on this machine too; without `--direct_running_mode` among them the number of rows decides between
    one thread and processes, and the run says which."""

    @field_validator("arguments")
    @classmethod
    def _number_of_workers_is_one(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        for argument in arguments:
            name, _, value = argument.partition("=")
            if name == "--direct_num_workers" and value and not value.isdecimal():
                raise ValueError(f"--direct_num_workers is a whole number, 0 for all cores. Received: {value}")
        return arguments

    @property
    def options(self) -> list[str]:
        """Everything that Beam is told, as its command line takes it. Empty where that is nothing but its default."""
        if self.runner == "DirectRunner" and not self.arguments:
            return []  # with any, TFX packs itself for workers elsewhere at every node, which takes more than a second
        options = [f"--runner={self.runner}", *self.arguments]
        setup_file = Path(__file__).parent.parent / "setup.py"
        is_remote = self.runner != "DirectRunner"
        if is_remote and setup_file.is_file() and not any(a.startswith("--setup_file") for a in self.arguments):
            options.append(f"--setup_file={setup_file}")  # workers need our code
        return options


class Retries(Section):
    """How often a task that failed is tried again, and after how long."""

    count: int = Field(2, ge=0)
    """Tries after the first."""
    backoff_seconds: int = Field(30, ge=0)
    """Seconds before the second try."""
    backoff_factor: int = Field(2, ge=1)
    """What the wait is multiplied by before each further try."""
    deadline_seconds: int = Field(604_800, ge=1)
    """Seconds from the start of the first try to the end of the last one: a try that runs then is ended. The default is
    a week; the hour that Kubeflow Pipelines has by default ends what takes longer."""


class Gpu(Section):
    """Accelerators of a task."""

    count: int = Field(1, ge=1)
    """How many the pod gets."""
    resource: Annotated[str, Field(pattern=_KUBERNETES_RESOURCE)] = "nvidia.com/gpu"
    """Name of the resource that the cluster's device plugin offers."""


class Requests(Section):
    """What the scheduler sets aside, where that is less than the limit."""

    cpu: Cpu | None = None
    """Cores, for example `2` or `500m`."""
    memory: Memory | None = None
    """Bytes, for example `4Gi`."""


class Toleration(Section):
    """A taint of nodes that the pod tolerates, as Kubernetes has it."""

    key: str | None = None
    """The taint's key. None, with the operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """`Exists` takes any value of the taint."""
    value: str | None = None
    """The taint's value, for `Equal`."""
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None
    """The effect that is tolerated. None: each."""
    toleration_seconds: int | None = Field(None, ge=0)
    """For NoExecute: seconds that the pod stays on a tainted node. None: for good."""

    @model_validator(mode="after")
    def _fits_its_operator(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"the operator Exists takes no value. Received: {self.value!r}")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("the operator Equal needs a key; without one use operator: Exists")
        return self


class VolumeClaim(Section):
    """A persistent volume claim that is mounted."""

    claim: str
    """Name of the PersistentVolumeClaim."""
    mount_path: AbsolutePath
    """Where it appears in the container."""
    sub_path: str = ""
    """Folder of the volume to mount. Empty: its root."""


class ConfigSource(Section):
    """A Secret or ConfigMap, as environment variables, as files, or both."""

    name: str
    """Name of the Secret or ConfigMap."""
    env: dict[str, str] = {}
    """Environment variable by key of the Secret or ConfigMap, for example `{accesskey: AWS_ACCESS_KEY_ID}`."""
    mount_path: AbsolutePath | None = None
    """Folder in which each key appears as a file."""
    optional: bool = False
    """true: the pod also starts where there is no such Secret or ConfigMap."""

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        if not self.env and self.mount_path is None:
            raise ValueError(f"{self.name!r} needs env, mount_path or both")
        return self


class TaskConfig(Section):
    """What a task's pod is like, and how the task is run. Sizes are Kubernetes quantities."""

    cpu: Cpu | None = None
    """Cores at most, for example `4` or `500m`; as many are set aside unless `requests` says less."""
    memory: Memory | None = None
    """Bytes at most, for example `16Gi`; as many are set aside unless `requests` says less."""
    requests: Requests = Requests()
    """What is set aside, where it is less than the limit."""
    gpu: Gpu | None = None
    """Accelerators. None: the task gets none."""
    node_selector: dict[str, str] = {}
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the pod tolerates."""
    shared_memory: Memory | None = None
    """Size of /dev/shm, which is 64 MiB otherwise: too little for NCCL between several GPUs."""
    volumes: tuple[VolumeClaim, ...] = ()
    """Persistent volume claims to mount, for example the one that holds the data."""
    secrets: tuple[ConfigSource, ...] = ()
    """Secrets as environment or files."""
    config_maps: tuple[ConfigSource, ...] = ()
    """Config maps as environment or files."""
    env: dict[str, str] = {}
    """Environment variables."""
    retries: Retries = Retries(count=0)
    """Tries after a failure."""
    timeout_seconds: int | None = Field(None, ge=1)
    """Seconds after which a pod of the task is ended."""
    labels: dict[str, str] = {}
    """Labels of the pod."""
    annotations: dict[str, str] = {}
    """Annotations of the pod."""
    cache: bool | None = None
    """Whether outputs of an earlier run with the same inputs are taken. None: for every component but those that look
    at what is not their input: the push directory, or what an Importer imports anew. TFX's own Pusher is not among
    them, so that the same model is pushed once."""


class KubeflowConfig(Section):
    """How the pipeline runs on Kubeflow Pipelines."""

    image: str = "kubetfx/pipeline:latest"
    """Container image of every task."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """None: as Kubernetes has it, which is Always for the tag `latest` and IfNotPresent for others."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with the credentials of the image's registry."""
    service_account: str | None = None
    """Service account that runs are started with. None: the one that Kubeflow Pipelines is installed with."""
    every_component: TaskConfig = TaskConfig()
    """What holds for each task, for example the claim with the data. `resources` adds to it and overrules it."""
    resources: dict[str, TaskConfig] = {}
    """What a component's task is like, by component. Only a component that has `gpu` here gets an accelerator."""
    fuse: Literal["none", "light"] | tuple[tuple[str, ...], ...] = "none"
    """Components that share a task, since each task costs two pods and the imports. `light`: StatisticsGen, SchemaGen,
    ExampleValidator and AnomalyGate are one task, and ServedModelResolver, Evaluator, Pusher and Report another. Or
    lists of neighbouring components."""

    @model_validator(mode="after")
    def _component_is_in_one_group(self) -> Self:
        names = [name for group in self.fused_groups for name in group]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"fuse: a component can be in one group only. Received: {', '.join(twice)} twice")
        return self

    @model_validator(mode="after")
    def _gpu_is_not_for_all(self) -> Self:
        if self.every_component.gpu:
            raise ValueError("every_component.gpu would leave GPUs idle in light tasks; name the component: resources")
        return self

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        for name in (None, *self.resources):
            task = self.every_component if name is None else self.of_component(name)
            for what in ("cpu", "memory"):
                request, limit = getattr(task.requests, what), getattr(task, what)
                if request and limit and _amount(request) > _amount(limit):
                    place = "every_component" if name is None else f"resources.{name}"
                    raise ValueError(
                        f"{place}.requests.{what} is more than {place}.{what}, and Kubernetes makes no such pod. "
                        f"Received: {request} and {limit}"
                    )
        return self

    @property
    def fused_groups(self) -> tuple[tuple[str, ...], ...]:
        """Components that share a task, a group each."""
        if self.fuse == "light":
            return LIGHT_GROUPS
        return () if self.fuse == "none" else self.fuse

    def of_component(self, component: str) -> TaskConfig:
        """What holds for a component: `every_component`, overruled and added to by its own entry in `resources`."""
        own = self.resources.get(component)
        if own is None:
            return self.every_component
        shared = self.every_component
        merged: dict[str, Any] = {name: getattr(own, name) for name in own.model_fields_set}
        for name in merged:
            ours, theirs = getattr(own, name), getattr(shared, name)
            if isinstance(ours, dict):
                merged[name] = {**theirs, **ours}
            elif isinstance(ours, tuple):
                merged[name] = (*theirs, *ours)
        return shared.model_copy(update=merged)


class PipelineConfig(Section):
    """All of pipeline.yaml."""

    name: Name
    """Name of the pipeline: of its workspace, its runs, and by default of the served model."""
    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    card: CardConfig = CardConfig()
    serving: ServingConfig = ServingConfig()
    beam: BeamConfig = BeamConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()
    workspace: str | None = None
    """Folder of artifacts, metadata and logs. Default: .kubetfx/NAME beside pipeline.yaml."""

    @field_validator("evaluation")
    @classmethod
    def _metrics_fit_the_task(cls, evaluation: EvaluationConfig, info: ValidationInfo) -> EvaluationConfig:
        model = info.data.get("model")
        if model is None:  # already an error of its own
            return evaluation
        known: tuple[str, ...] = METRICS[model.task]
        if model.kind == "image":
            known = (*known, *IMAGE_METRICS, *evaluation.robustness.metrics)
        elif "robustness" in evaluation.changed:
            raise ValueError("evaluation.robustness is for images: model.kind: image")
        for section, names in (("metrics", evaluation.metrics), ("thresholds", evaluation.thresholds)):
            for metric in names:
                if metric not in known:
                    raise ValueError(
                        f"evaluation.{section}: there is no metric {metric!r} for {model.task}."
                        f"{nearest(metric, known)} Known: {', '.join(known)}"
                    )
        return evaluation

    @field_validator("kubeflow")
    @classmethod
    def _components_are_known(cls, kubeflow: KubeflowConfig) -> KubeflowConfig:
        fused = [name for group in kubeflow.fused_groups for name in group]
        for section, names in (("resources", kubeflow.resources), ("fuse", fused)):
            for name in names:
                if name not in COMPONENTS:
                    raise ValueError(
                        f"kubeflow.{section}: there is no component {name!r}.{nearest(name, COMPONENTS)} "
                        f"Known: {', '.join(COMPONENTS)}"
                    )
        return kubeflow

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> Self:
        named = {*self.data.drop, *self.features.numeric, *self.features.categorical}
        if self.data.label in named:
            raise ValueError(
                f"data.label {self.data.label!r} also stands in data.drop, features.numeric or features.categorical"
            )
        return self

    @model_validator(mode="after")
    def _images_fit_together(self) -> Self:
        is_image = self.data.format == "images"
        if is_image != (self.model.kind == "image"):
            raise ValueError(
                "data.format: images and model.kind: image go together. Received: "
                f"data.format: {self.data.format}, model.kind: {self.model.kind}"
            )
        if not is_image and (
            wrong := sorted({"fine_tune", "label_smoothing", "checkpoint_directory"} & self.training.changed)
        ):
            raise ValueError(f"training.{wrong[0]} is for images: model.kind: image")
        if is_image and self.features.changed:
            raise ValueError("features are columns of a table, and data.format is images. Leave the section out")
        if self.training.fine_tune and (self.model.backbone is None or self.model.weights == "none"):
            raise ValueError("training.fine_tune needs model.backbone with weights: there is nothing to tune otherwise")
        return self

    @property
    def example_gen(self) -> str:
        """Id of the node that reads the data."""
        return "ImageExampleGen" if self.data.format == "images" else "TableExampleGen"

    @property
    def model_name(self) -> str:
        """Name that clients of the served model ask for."""
        return self.serving.model_name or self.name

    @property
    def workspace_path(self) -> Path:
        """Folder of artifacts, metadata and logs."""
        assert self.workspace is not None  # load_config fills it in
        return Path(self.workspace)

    @property
    def push_path(self) -> Location:
        """TensorFlow Serving's model base path."""
        assert self.serving.push_directory is not None  # load_config fills it in
        return locate(self.serving.push_directory)


def load_config(path: Path, *, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read pipeline.yaml.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value`, the value in YAML, each put over what the file says.

    Returns:
        The checked tree, with all paths absolute.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not fit the tree. All faults are listed.
    """
    document = _read_yaml(path)
    for override in overrides:
        _apply_override(document, override)
    try:
        config = PipelineConfig.model_validate(document)
    except ValidationError as error:
        faults = [_describe(dotted, faults) for dotted, faults in _by_path(error.errors()).items()]
        raise ConfigError(f"{path} is not a valid pipeline:\n" + "\n".join(f"  {f}" for f in faults)) from None
    return _with_absolute_paths(config, folder=path.resolve().parent)


def nearest(name: str, candidates: Sequence[str]) -> str:
    """` Did you mean 'x'?` for the candidate that is most like the name; empty if none is."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean {lowered[matches[0]]!r}?" if matches else ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own safe loader takes the last of two sections of one name without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no such file. Received: {path}. "
            "`kubetfx init DATA --label COLUMN` writes a pipeline.yaml for your data."
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"A pipeline is a YAML file. Received: the folder {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping of sections (name, data, ...). Received: {_kind(document)}.")
    return document


def _apply_override(document: dict[str, Any], override: str) -> None:
    dotted, separator, text = override.partition("=")
    if not separator or not all(dotted.split(".")):
        raise ConfigError(f"--set takes dotted.key=value. Received: {override!r}. Try --set training.epochs=3.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {dotted}: the value is not YAML. Received: {text!r} ({error}).") from None
    *parents, last = dotted.split(".")
    section = document
    for depth, key in enumerate(parents, start=1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            inner = ".".join(parents[:depth])
            raise ConfigError(f"--set {dotted}: {inner} has no keys. Received: {inner} = {section!r}.")
    section[last] = value


def _by_path(errors: Sequence[ErrorDetails]) -> dict[str, list[ErrorDetails]]:
    """Faults by dotted path. A value may be wrong in several ways; where a part of it is, that part is what counts."""
    paths: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        location = tuple(part for part in error["loc"] if not _TYPE_IN_PATH.match(str(part)))
        paths.setdefault(".".join(map(str, location)), []).append({**error, "loc": location})
    return {path: faults for path, faults in paths.items() if not any(p.startswith(f"{path}.") for p in paths)}


def _describe(path: str, faults: Sequence[ErrorDetails]) -> str:
    fault = faults[0]
    location = fault["loc"]
    dotted = path or "the pipeline"
    if fault["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        key = str(location[-1])
        return f"{dotted}: there is no such key.{nearest(key, known)} Known here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{dotted}: is required."
    message = "; or ".join(_lower_first(other["msg"].removeprefix("Value error, ")) for other in faults)
    if fault["type"] == "value_error":  # our own; it says what was received
        return f"{message}." if message.startswith(dotted) else f"{dotted}: {message}."
    return f"{dotted}: {message}. Received: {fault['input']!r} ({_kind(fault['input'])})."


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


def _fields_at(location: Sequence[str | int]) -> list[str]:
    section: type[BaseModel] = PipelineConfig
    for part in location:
        field = section.model_fields.get(str(part))
        inner = next(_sections(field.annotation), None) if field else None
        section = inner or section
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _kind(value: object) -> str:
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def _with_absolute_paths(config: PipelineConfig, *, folder: Path) -> PipelineConfig:
    def absolute(path: str, *, section: str) -> str:
        if is_url(path):
            raise ConfigError(f"{section}: a path of this machine's file system is needed. Received: {path}.")
        return str(folder / Path(path).expanduser())

    def anywhere(path: str, *, section: str) -> str:
        if not is_url(path):
            return absolute(path, section=section)
        try:
            return str(locate(path))
        except ValueError as error:
            raise ConfigError(f"{section}: {error}.") from None

    data, serving = config.data, config.serving
    workspace = absolute(config.workspace or f".kubetfx/{config.name}", section="workspace")
    push_directory = serving.push_directory or f"{workspace}/pushed/{config.model_name}"
    schema_file = data.schema_file and absolute(data.schema_file, section="data.schema_file")
    weights, checkpoints = config.model.weights, config.training.checkpoint_directory
    return config.model_copy(
        update={
            "workspace": workspace,
            "data": data.model_copy(
                update={"path": anywhere(data.path, section="data.path"), "schema_file": schema_file}
            ),
            "serving": serving.model_copy(
                update={"push_directory": anywhere(push_directory, section="serving.push_directory")}
            ),
            "model": config.model.model_copy(
                update={
                    "weights": weights
                    if weights in ("imagenet", "none")
                    else absolute(weights, section="model.weights")
                }
            ),
            "training": config.training.model_copy(
                update={
                    "checkpoint_directory": checkpoints
                    and absolute(checkpoints, section="training.checkpoint_directory")
                }
            ),
        }
    )

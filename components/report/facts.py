"""Facts: the content of a report as data.

Everything that is drawn or printed is made only from these. Other modules of this folder make them from artifacts;
rendering them needs neither TensorFlow nor TFX.
"""

from pathlib import Path
from typing import Any, Literal, Self

from kubetfx.artifacts import FACTS
from kubetfx.components.data.text_judgement import TextStatistics
from kubetfx.components.evaluation.cross_validated import CrossValidated
from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.report.calibration_facts import Calibration
from kubetfx.components.report.evaluation_facts import Evaluation
from kubetfx.components.report.fact import Model
from kubetfx.components.report.text_facts import TextFacts
from kubetfx.components.tuning.tuning_results import TuningResults
from kubetfx.config.data_section import ValidationConfig
from kubetfx.config.evaluation_section import EvaluationConfig
from kubetfx.config.metric_catalogue import Task, label_of
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.report_section import CardConfig, ReportConfig
from kubetfx.config.text_section import TextCleaningConfig
from kubetfx.provenance import DataOrigin

Point = tuple[float, float]


class Settings(Model):
    """The settings that the report depends on."""

    name: str
    model_name: str
    task: Task = "classification"
    module: str | None = None
    """The user's own module of the network."""
    seed: int = 0
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    card: CardConfig = CardConfig()
    validation: ValidationConfig = ValidationConfig()
    rest: str | None = None
    """Address of the server that the config names."""
    cleaning: TextCleaningConfig | None = TextCleaningConfig()
    """Cleaning of texts. None: a pretrained encoder reads them unchanged."""
    is_text_costly: bool = False
    """Whether a text takes the model long, as with attention or, for all one knows, the user's own network."""

    @classmethod
    def of(cls, config: PipelineConfig) -> Self:
        """Return the settings of a config.

        Args:
            config: The config of the pipeline.
        """
        encoder = config.features.text_encoder
        return cls(
            name=config.name,
            model_name=config.model_name,
            task=config.model.task,
            module=config.model.module,
            seed=config.training.seed,
            evaluation=config.evaluation,
            report=config.report,
            card=config.card,
            validation=config.validation,
            rest=config.serving.endpoint.rest if config.serving.endpoint else None,
            cleaning=None if encoder.kind == "pretrained" else encoder.cleaning,
            is_text_costly=encoder.kind in ("pretrained", "transformer") or config.model.module is not None,
        )


class Split(Model):
    """Rows of a split."""

    name: str
    rows: int


class Distance(Model):
    """Distance between two distributions of a column, 0 to 1."""

    value: float
    threshold: float
    measure: Literal["L-infinity", "Jensen-Shannon divergence"]

    @property
    def is_large(self) -> bool:
        """Whether it is above the limit."""
        return self.value > self.threshold


class ColumnSplit(Model):
    """A column in one split."""

    missing: float
    """Share of the rows."""
    distinct: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    median: float | None = None
    deviation: float | None = None
    shares: list[float] = []
    """Share of the rows that have a value, by bar of the column."""


class Column(Model):
    """A column of the table."""

    name: str
    type: str
    role: str | None = None
    """`label`, `numeric`, `vocabulary`, `hashed` or `excluded`; None if the schema does not say."""
    reason: str = ""
    distinct: int | None = None
    """Different values in the whole table."""
    edges: list[float] = []
    """Bounds of the bars of a histogram."""
    values: list[str] = []
    """Values of the bars if they are not a histogram: the most frequent ones."""
    splits: dict[str, ColumnSplit] = {}
    skew: Distance | None = None
    """Distance of the evaluation rows from the training rows."""
    drift: Distance | None = None
    """Distance of the training rows from those of the previous run."""


class AnomalyFact(Model):
    """A way in which the data departs from the schema."""

    split: str
    column: str
    problem: str
    action: Literal["stop", "warn", "ignore"] | None = None
    """The configured action; None if it has not been judged yet."""
    remedy: str


class LabelNoise(Model):
    """Rows that share all features with a row of another label."""

    rows: int
    total_rows: int
    """That were looked at."""
    ceiling: float
    """The best accuracy that they allow or, for numbers, the best share of explained variance."""


class Data(Model):
    """The table."""

    rows: int
    splits: list[Split]
    sampled_rows: int | None = None
    """Number of rows in the statistics, if not all (data.statistics_rows)."""
    sample_weight: str | None = None
    """The column of row weights in metrics. Here each row counts once."""
    span: int | None = None
    fingerprint: str | None = None
    columns: list[Column]
    anomalies: list[AnomalyFact] | None = None
    """None: not looked for."""
    label_noise: LabelNoise | None = None
    texts: list[TextStatistics] = []
    """Texts of each column of text and each split."""
    compared_with: str | None = None
    """The run whose data the drift is measured against."""
    not_compared_because: str | None = None
    """Why there is no previous run."""
    notes: list[str] = []
    """For images: which were left out, and which are copies."""

    @property
    def warnings(self) -> list[AnomalyFact]:
        """Anomalies that the config lets pass with a warning."""
        return [anomaly for anomaly in self.anomalies or () if anomaly.action == "warn"]

    @property
    def excluded(self) -> list[Column]:
        """Columns that are not features."""
        return [column for column in self.columns if column.role == "excluded"]

    @property
    def drifted(self) -> list[Column]:
        """Columns whose drift is over the threshold, the farthest first."""
        found = [(column.drift.value, column) for column in self.columns if column.drift and column.drift.is_large]
        return [column for _, column in sorted(found, key=lambda entry: -entry[0])]

    @property
    def skewed(self) -> list[Column]:
        """Columns whose skew is over the threshold, the farthest first."""
        found = [(column.skew.value, column) for column in self.columns if column.skew and column.skew.is_large]
        return [column for _, column in sorted(found, key=lambda entry: -entry[0])]


class Layer(Model):
    """A layer of the network."""

    name: str
    type: str
    output: list[list[int | None]] = []
    parameters: int = 0


class ImageInput(Model):
    """How images were fed to the training."""

    images_per_second: float
    wait_share: float
    """Share of the time of the training steps spent waiting for images."""
    decoded: str
    """When they were decoded."""


class Choice(Model):
    """The choice of `model.kind: auto`, and the reason."""

    kind: Literal["network", "trees", "average"]
    metric: str
    values: dict[str, float]
    """Values of the metric on the validation rows, by kind."""
    trees_share: float
    """Weight of the trees in the best average."""
    rows: int
    """Rows of validation."""

    @property
    def words(self) -> str:
        """The chosen model, and by how much it is better than the others."""
        names = {"network": "network", "trees": "trees", "average": f"average with {self.trees_share:.0%} trees"}
        best = self.values[self.kind]
        others = [
            f"{names[kind]} {format_metric(value)}{f' ({value / best - 1:+.1%})' if best else ''}"
            for kind, value in self.values.items()
            if kind != self.kind
        ]
        return (
            f"Model: {names[self.kind]}. {label_of(self.metric)} on the {self.rows:,} validation rows: "
            f"{format_metric(best)}; {', '.join(others)}."
        )


class Ensemble(Model):
    """The gain from averaging networks of different seeds, or the models of folds."""

    metric: str
    members: list[float]
    """The metric of each network on the rows of the split."""
    value: float
    """The metric of their mean."""
    rows: int
    """Rows of the split."""
    split: Literal["validation", "eval"] = "validation"
    """The split of the measurement: for folds `eval`, which none of them has seen."""

    @property
    def words(self) -> str:
        """The quality of the mean, and of its networks."""
        alone = sum(self.members) / len(self.members)
        gain = f", {1 - self.value / alone:.1%} lower than theirs on average" if alone else ""
        of_folds = self.split == "eval"
        what = f"the models of {len(self.members)} folds" if of_folds else f"{len(self.members)} networks"
        rows = (
            f"{self.rows:,} evaluation rows, which no fold has seen" if of_folds else f"{self.rows:,} validation rows"
        )
        return (
            f"Ensemble of {what}. {label_of(self.metric)} on the {rows}: "
            f"{format_metric(self.value)}{gain} ({format_metric(min(self.members))} to "
            f"{format_metric(max(self.members))})."
        )


class WarmStart(Model):
    """The weights that `training.warm_start` took over from the served model."""

    why: str = ""
    """Why nothing."""
    version: int | None = None
    started: int = 0
    """Weights, of the served model."""
    anew: dict[str, str] = {}
    """Why other weights begin with initial values, by name."""

    @property
    def words(self) -> str:
        """The source of the weights, and what did not fit."""
        if self.why:
            return f"Warm start: the network began with initial weights, since {self.why}."
        served = f"version {self.version}" if self.version is not None else "the served model"
        if not self.anew:
            return f"Warm start: all {self.started} weights come from {served}."
        reasons: dict[str, list[str]] = {}
        for name, reason in self.anew.items():
            reasons.setdefault(reason, []).append(name)
        said = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
        of_all = f"{self.started} of {self.started + len(self.anew)} weights"
        return f"Warm start: {of_all} come from {served}. These began with initial values: {said}."


class Pretraining(Model):
    """What a layer learned before the training, by guessing masked tokens."""

    texts: int
    loss: list[float]
    """On the texts that it learned from, by epoch."""
    val_loss: list[float]
    """On the held out ones."""

    @property
    def words(self) -> str:
        """How many texts there were, and how well it guesses."""
        if not self.val_loss:
            return "Nothing was pretrained, since no text has two tokens."
        epochs = len(self.val_loss)
        fell = f"{format_metric(self.val_loss[0])} after the first epoch, " if epochs > 1 else ""
        return (
            f"Pretrained for {epochs} {'epochs' if epochs > 1 else 'epoch'} by guessing masked tokens of "
            f"{self.texts:,} texts: the loss on the tenth that was held out was {fell}"
            f"{format_metric(self.val_loss[-1])} after the last."
        )


class StoredWeights(Model):
    """The effect of `serving.weights`."""

    kind: str
    why: str = ""
    """Why the weights are unchanged."""
    bytes: tuple[int, int] = (0, 0)
    """Bytes of the weights, before and after."""
    rows: int = 0
    """Rows of validation, which the rest is measured on."""
    difference: float = 0
    """Between two answers, at most."""
    losses: tuple[float, float] = (0, 0)
    """Cross entropy, or mean squared error, before and after."""

    @property
    def words(self) -> str:
        """How much smaller the model is, and what that costs."""
        if self.why:
            return f"Weights are stored as {self.kind}, since {self.why}."
        before, after = (f"{number / 1000:,.0f} kB" for number in self.bytes)
        exact, rounded = map(format_metric, self.losses)
        return (
            f"Weights are stored as {self.kind}: {after} instead of {before}. On the {self.rows:,} validation rows no "
            f"answer differs by more than {format_metric(self.difference)}, and the loss is {rounded} instead of "
            f"{exact}."
        )


class Team(Model):
    """The processes of a distributed training."""

    strategy: str
    workers: int
    replicas: int
    """Number of devices of all workers."""
    mean_staleness: float | None = None
    """With parameter servers: commits of others between a worker's read of the weights and its own commit."""
    most_staleness: int | None = None


class Training(Model):
    """How the model was trained: history.json of the Trainer."""

    kind: Literal["network", "trees"] = "network"
    """An epoch of trees is a round of boosting."""
    epochs: int
    best_epoch: int | None = None
    epochs_asked: int | None = None
    stopped_early: bool = False
    may_stop_early: bool = False
    history: dict[str, list[float]]
    learning_rate: list[float] = []
    seconds: list[float] = []
    steps_per_epoch: int | None = None
    seconds_per_step: float | None = None
    rows: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    layers: list[Layer] = []
    parameters: int | None = None
    trainable_parameters: int | None = None
    optimizer: str | None = None
    hardware: dict[str, Any] = {}
    versions: dict[str, str] = {}
    trees: int | None = None
    """Their number; `parameters` are the leaves."""
    input: ImageInput | None = None
    """How images were fed to the training."""
    team: Team | None = None
    """None: one process with one device."""
    choice: Choice | None = None
    """Between this and `beside`."""
    ensemble: Ensemble | None = None
    """The ensemble of networks; the other facts are about the first network."""
    warm_start: WarmStart | None = None
    """Result of `training.warm_start`; None: it was not configured."""
    pretraining: dict[str, Pretraining] = {}
    """Results of `features.text_encoder.pretrain`, by layer."""
    calibration: Calibration | None = None
    """Result of `evaluation.calibrate`; None: it was not configured."""
    stored_weights: StoredWeights | None = None
    """Result of `serving.weights`; None: the weights are as trained."""
    beside: "Training | None" = None
    alone: str = ""
    """Why `model.kind: auto` trained no trees, in words."""
    diagnosis: str = ""
    """What the curves say about over- and underfitting, in a sentence."""

    @property
    def taken(self) -> str:
        """How the model came about, in words.

        It says what `model.kind: auto` took, and why, what an ensemble gained, from where it started, what it was
        pretrained on, how its weights are stored and how it is calibrated. It is empty for a single model without any
        of it.
        """
        ensemble = self.ensemble or (self.beside.ensemble if self.beside else None)
        warm_start = self.warm_start or (self.beside.warm_start if self.beside else None)
        pretraining = self.pretraining or (self.beside.pretraining if self.beside else {})
        said = [
            self.choice.words if self.choice else self.alone,
            ensemble.words if ensemble else "",
            warm_start.words if warm_start else "",
            *(one.words for one in pretraining.values()),
            self.stored_weights.words if self.stored_weights else "",
            self.calibration.words if self.calibration else "",
        ]
        return " ".join(filter(None, said))

    @property
    def unit(self) -> str:
        """The unit of an epoch."""
        return "epoch" if self.kind == "network" else "round"


class ClassQuality(Model):
    """Scores of a class."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int | float


class Curve(Model):
    """A line of a figure."""

    name: str
    area: float | None = None
    points: list[Point]


class CalibrationBin(Model):
    """Rows whose predicted probability is about the same."""

    predicted: float
    observed: float
    rows: int


class Importance(Model):
    """How much worse the model gets when a feature's values are shuffled."""

    column: str
    value: float
    deviation: float
    """Standard deviation over the repetitions."""


class Mistake(Model):
    """A misclassified picture."""

    picture: str
    """A small copy, as a data URI."""
    path: str
    """Path of its file."""
    truth: str
    named: str
    """The class that the model names."""
    score: float
    """Its probability."""


class Quality(Model):
    """How well the model predicts, on a sample of the evaluation split; classes and confusion on all of it."""

    sample_rows: int
    total_rows: int
    classes: list[str] = []
    confusion: list[list[int | float]] = []
    """A row is a true class, a column a predicted one. Empty where there are too many classes for a picture."""
    per_class: list[ClassQuality] = []
    kappa: float | None = None
    roc: list[Curve] = []
    roc_thresholds: list[tuple[float, float, float]] = []
    """Threshold, false-positive rate, recall: all classes against the rest together, or the second of two."""
    precision_recall: list[Curve] = []
    calibration: list[CalibrationBin] = []
    calibration_error: float | None = None
    predicted_against_true: list[Point] = []
    """True value, predicted value, of rows of the sample."""
    residual_edges: list[float] = []
    residual_counts: list[int] = []
    residual_mean: float | None = None
    residual_deviation: float | None = None
    importance: list[Importance] = []
    """The most important first."""
    importance_metric: str = ""
    importance_rows: int = 0
    importance_repetitions: int = 0
    num_mistakes: int | None = None
    """Pictures of the sample that are taken for another class; None for tables."""
    mistakes: list[Mistake] = []
    """Those that the model is most certain about."""
    texts: TextFacts | None = None
    """Facts about a column of text."""


class Push(Model):
    """The outcome of the push."""

    version: int | None = None
    """None: not pushed."""
    destination: str | None = None
    served_version: int | None = None
    """The version that it was compared with."""
    request: str | None = None
    """A body for the REST API's `:predict`, of one real row."""
    model_digest: str | None = None
    """SHA-256 of the SavedModel."""


class Facts(Model):
    """The content of a report. A part is None if the run did not get that far."""

    schema_version: Literal[1] = 1
    settings: Settings
    label: str | None = None
    data: Data | None = None
    training: Training | None = None
    evaluation: Evaluation | None = None
    cross_validation: CrossValidated | None = None
    tuning: TuningResults | None = None
    quality: Quality | None = None
    push: Push | None = None
    origin: DataOrigin | None = None
    """Which files the rows are of."""
    problems: list[str] = []
    """Parts that could not be made, with the reason."""


def write(facts: Facts, folder: Path) -> None:
    """Write facts.json.

    Args:
        facts: The facts of the run.
        folder: to write it into.
    """
    (folder / FACTS).write_text(facts.model_dump_json(), encoding="utf-8")


def read(folder: Path) -> Facts | None:
    """Return the facts of a folder; None where there are none.

    Args:
        folder: with facts.json.
    """
    path = folder / FACTS
    return Facts.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None

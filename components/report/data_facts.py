"""Facts about the table: statistics, schema, anomalies; skew between the splits and drift since the previous run.

Reads the protobufs that StatisticsGen, SchemaGen and ExampleValidator wrote, with neither TensorFlow nor TFDV.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, LABEL_NOISE, STATISTICS, TEXTS, TIMES, TRAIN, VALIDATION, split_folder
from kubetfx.components.data.text_judgement import TextStatistics
from kubetfx.components.report.facts import AnomalyFact, Column, ColumnSplit, Data, Distance, LabelNoise, Split
from kubetfx.config.data_section import AnomalyAction, ValidationConfig
from kubetfx.config.report_section import ReportConfig
from kubetfx.models.features import WEIGHT, role_of

if TYPE_CHECKING:  # it imports TFX
    from kubetfx.components.anomaly_gate import Anomaly

BARS = 10
"""Bars of a histogram, as many as TFDV has."""
WHOLE_BARS = 31
"""Maximum number of bars of an integer column with one bar per value, such as the days of a month."""
TOP_VALUES = 8
"""Bars of a column of text."""
_ORDER = (TRAIN, VALIDATION, EVAL)
_SCHEMA_TYPES = {schema_pb2.INT: "int64", schema_pb2.FLOAT: "float", schema_pb2.BYTES: "string"}
_TYPES = {0: "int64", 1: "float", 2: "string", 3: "bytes"}

Statistics = Mapping[str, statistics_pb2.DatasetFeatureStatistics]
"""By split."""


def read_statistics(folder: Path) -> Statistics:
    """Return the statistics of each split, in the order in which splits are shown.

    Args:
        folder: The folder of the statistics artifact.
    """
    found = {}
    for file in folder.glob(f"Split-*/{STATISTICS}"):
        (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes()).datasets
        found[file.parent.name.removeprefix("Split-")] = dataset
    return {split: found[split] for split in sorted(found, key=_rank)}


def _rank(split: str) -> tuple[int, str]:
    return _ORDER.index(split) if split in _ORDER else len(_ORDER), split


def label_of(schema: schema_pb2.Schema) -> str | None:
    """Return the column that is predicted; None if the schema says none.

    Args:
        schema: with what columns are used for.
    """
    return _first_with("label", schema)


def _first_with(tag: str, schema: schema_pb2.Schema) -> str | None:
    return next((feature.name for feature in schema.feature if tag in feature.annotation.tag), None)


def columns_of(schema: schema_pb2.Schema) -> list[Column]:
    """Return the role of each column, without its statistics.

    Args:
        schema: with what columns are used for.
    """
    return [_column(feature.name, {}, rows={}, feature=feature) for feature in schema.feature]


def describe(
    statistics: Statistics,
    *,
    schema: schema_pb2.Schema | None = None,
    previous: Statistics | None = None,
    config: ReportConfig | None = None,
) -> Data:
    """Return facts about rows and columns.

    Args:
        statistics: The statistics of each split.
        schema: what the columns are used for.
        previous: statistics of the previous run.
        config: the thresholds of skew and drift.
    """
    config = config or ReportConfig()
    by_split = {split: {name_of(f): _in_time(f) for f in dataset.features} for split, dataset in statistics.items()}
    before = {name_of(f): _in_time(f) for f in previous[TRAIN].features} if previous and TRAIN in previous else {}
    splits = [Split(name=name, rows=int(dataset.num_examples)) for name, dataset in statistics.items()]
    rows = {split.name: split.rows for split in splits}
    features = {feature.name: feature for feature in schema.feature} if schema else {}
    names = dict.fromkeys([*features, *(name for columns in by_split.values() for name in columns)])
    columns = []
    for name in names:
        own = {split: columns[name] for split, columns in by_split.items() if name in columns}
        column = _column(name, own, rows=rows, feature=features.get(name))
        skew = _distance(own.get(TRAIN), own.get(EVAL), config.skew_threshold)
        drift = _distance(own.get(TRAIN), before.get(name), config.drift_threshold)
        columns.append(column.model_copy(update={"skew": skew, "drift": drift}))
    weight = _first_with(WEIGHT, schema) if schema else None
    return Data(rows=sum(rows.values()), splits=splits, columns=columns, sample_weight=weight)


def anomalies(folder: Path, config: ValidationConfig | None = None) -> list[AnomalyFact]:
    """Return the anomalies of ExampleValidator, each with the configured action and a remedy.

    Args:
        folder: The folder of the anomalies artifact.
        config: The `validation` section; None if they have not been judged yet.
    """
    from kubetfx.components.anomaly_gate import read_anomalies

    splits = sorted((path.name.removeprefix("Split-") for path in folder.glob("Split-*")), key=_rank)
    folders = {split: folder / split_folder(split) for split in splits}
    found = []
    for anomaly in read_anomalies(folders, config or ValidationConfig()):
        action = anomaly.action if config else None
        found.append(
            AnomalyFact(
                split=anomaly.split,
                column=anomaly.feature,
                problem=anomaly.problem,
                action=action,
                remedy=_remedy(anomaly, action),
            )
        )
    return found


def _remedy(anomaly: "Anomaly", action: AnomalyAction | None) -> str:
    if action in ("warn", "ignore"):
        return "The config lets it pass."
    passing = f"Fix the data; or let it pass with {anomaly.setting_to_pass}"
    return f"{passing}." if anomaly.key else f"{passing}; or name a corrected copy of the schema as data.schema_file."


def name_of(feature: Any) -> str:
    """Return the name of a column.

    Args:
        feature: its statistics.
    """
    return feature.name or ".".join(feature.path.step)


def _in_time(feature: Any) -> Any:
    """Return facts of dates as numbers: seconds since 1970, and not how they are written."""
    found = {one.name.removeprefix(TIMES): one for one in feature.custom_stats if one.name.startswith(TIMES)}
    if not found:
        return feature
    numbers = {key: found[key].num for key in ("min", "max", "mean", "median")}
    number = statistics_pb2.NumericStatistics(common_stats=_common(feature), std_dev=math.nan, **numbers)
    number.histograms.extend([found[""].histogram] if "" in found else [])
    return statistics_pb2.FeatureNameStatistics(
        path=feature.path,
        type=statistics_pb2.FeatureNameStatistics.FLOAT,
        num_stats=number,
        custom_stats=found.values(),
    )


def _is_date(statistics: Any) -> bool:
    return any(one.name.startswith(TIMES) for one in statistics.custom_stats)


def _column(
    name: str, own: Mapping[str, Any], *, rows: Mapping[str, int], feature: schema_pb2.Feature | None
) -> Column:
    some = next(iter(own.values()), None)
    kind = _TYPES.get(some.type, "other") if some is not None else _SCHEMA_TYPES.get(feature.type if feature else 0, "")
    if some is not None and _is_date(some):
        kind = "date"
    edges = _edges(list(own.values()))
    values = [] if edges else _top_values(own)
    splits = {}
    for split, statistics in own.items():
        shares = _histogram(statistics, edges) if edges else _shares_of(statistics, values)
        splits[split] = _split(statistics, shares, rows=rows[split])
    role = role_of(feature) if feature else None
    reason = "; ".join(feature.annotation.comment) if feature else ""
    return Column(name=name, type=kind, role=role, reason=reason, edges=edges, values=values, splits=splits)


def _split(statistics: Any, shares: list[float], *, rows: int) -> ColumnSplit:
    common = _common(statistics)
    missing = 1 - common.num_non_missing / rows if rows else 0.0
    if statistics.WhichOneof("stats") != "num_stats":
        return ColumnSplit(missing=missing, distinct=int(statistics.string_stats.unique), shares=shares)
    number = statistics.num_stats
    if not common.num_non_missing:
        return ColumnSplit(missing=missing, shares=shares)
    return ColumnSplit(
        missing=missing,
        minimum=_finite(number.min),
        maximum=_finite(number.max),
        mean=_finite(number.mean),
        median=_finite(number.median),
        deviation=_finite(number.std_dev),
        shares=shares,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _common(statistics: Any) -> Any:
    stats = getattr(statistics, statistics.WhichOneof("stats") or "string_stats")
    return stats.common_stats


def buckets_of(statistics: Any) -> list[tuple[float, float, float]]:
    """Return lower bound, upper bound and count of the evenly spaced buckets of a number.

    Args:
        statistics: The statistics of the column.
    """
    histograms = statistics.num_stats.histograms
    standard = next((h for h in histograms if h.type == statistics_pb2.Histogram.STANDARD), None)
    if standard is None:
        return []
    found = [(bucket.low_value, bucket.high_value, bucket.sample_count) for bucket in standard.buckets]
    return [entry for entry in found if math.isfinite(entry[0]) and math.isfinite(entry[1])]


def _edges(statistics: Sequence[Any]) -> list[float]:
    """Return bounds of the bars that all splits of a column share; empty where it has no numbers."""
    buckets = [bucket for one in statistics if one.WhichOneof("stats") == "num_stats" for bucket in buckets_of(one)]
    if not buckets:
        return []
    low, high = min(bucket[0] for bucket in buckets), max(bucket[1] for bucket in buckets)
    if all(one.type == statistics_pb2.FeatureNameStatistics.INT for one in statistics) and high - low < WHOLE_BARS:
        return [float(edge) for edge in np.arange(math.floor(low) - 0.5, math.ceil(high) + 1)]
    edges = np.linspace(low, high, BARS + 1) if high > low else np.array([low, high])
    return [float(edge) for edge in edges]


def _histogram(statistics: Any, edges: Sequence[float]) -> list[float]:
    """Return the share of the values in each bar, assuming that values are spread evenly within a bucket."""
    mass = _spread(_comparable(statistics, edges), np.array(edges))
    total = mass.sum()
    return [round(float(value), 5) for value in (mass / total if total else mass)]


def _comparable(statistics: Any, edges: Sequence[float]) -> Sequence[tuple[float, float, float]]:
    """Return the buckets of a number.

    For integers in a narrow range they are split into single values, since bucket boundaries depend on the range, and
    would make equal distributions look different.
    """
    buckets = buckets_of(statistics)
    if statistics.type != statistics_pb2.FeatureNameStatistics.INT or not edges or edges[0] % 1 != 0.5:
        return buckets
    return [one for bucket in buckets for one in _by_whole_number(*bucket, is_last=bucket is buckets[-1])]


def _by_whole_number(low: float, high: float, count: float, *, is_last: bool) -> list[tuple[float, float, float]]:
    """Return a bucket as points, one for each whole number that it can hold: from `low` on and below `high`."""
    end = math.floor(high) if is_last else math.ceil(high - 1e-9) - 1
    held = range(math.ceil(low - 1e-9), end + 1) or [round((low + high) / 2)]
    return [(float(whole), float(whole), count / len(held)) for whole in held]


def _spread(buckets: Sequence[tuple[float, float, float]], edges: Array) -> Array:
    """Return the counts of buckets on other bounds, which cover them."""
    mass = np.zeros(max(len(edges) - 1, 1))
    if not buckets:
        return mass
    low, high, count = (np.array(values) for values in zip(*buckets, strict=True))
    width = high - low
    point = width <= 0
    if point.any():  # all values of a bucket are one number
        inner = edges[1:-1]
        np.add.at(mass, np.searchsorted(inner, low[point], side="right"), count[point])
    low, high, width, count = low[~point], high[~point], width[~point], count[~point]
    if len(low) and len(edges) > 1:
        overlap = np.minimum(high[:, None], edges[None, 1:]) - np.maximum(low[:, None], edges[None, :-1])
        mass += (np.clip(overlap, 0, None) / width[:, None] * count[:, None]).sum(axis=0)
    return mass


def frequencies_of(statistics: Any) -> dict[str, float]:
    """Return the count of each value of text, as far as TFDV lists them.

    Args:
        statistics: The statistics of the column.
    """
    text = statistics.string_stats
    buckets = text.rank_histogram.buckets
    if buckets:
        return {bucket.label: bucket.sample_count for bucket in buckets}
    return {top.value: top.frequency for top in text.top_values}


def _top_values(own: Mapping[str, Any]) -> list[str]:
    """Return the most frequent values, of the training split where there is one."""
    source = own.get(TRAIN) or next(iter(own.values()), None)
    if source is None or source.WhichOneof("stats") != "string_stats":
        return []
    ranked = sorted(frequencies_of(source).items(), key=lambda entry: (-entry[1], entry[0]))
    return [value for value, _ in ranked[:TOP_VALUES]]


def _shares_of(statistics: Any, values: Sequence[str]) -> list[float]:
    if statistics.WhichOneof("stats") != "string_stats":
        return []
    frequencies, total = frequencies_of(statistics), statistics.string_stats.common_stats.num_non_missing
    return [round(frequencies.get(value, 0) / total, 5) if total else 0.0 for value in values]


def _distance(ours: Any, theirs: Any, threshold: float) -> Distance | None:
    """Return the distance of two columns, by TFDV's measures; None if there is nothing to compare."""
    if ours is None or theirs is None or ours.WhichOneof("stats") != theirs.WhichOneof("stats"):
        return None
    if _is_date(ours) or _is_date(theirs):  # time moves on: the newest dates are always far from earlier ones
        return None
    if not _common(ours).num_non_missing or not _common(theirs).num_non_missing:
        return None
    if ours.WhichOneof("stats") == "string_stats":
        return Distance(
            value=l_infinity(frequencies_of(ours), frequencies_of(theirs)), threshold=threshold, measure="L-infinity"
        )
    if ours.WhichOneof("stats") == "num_stats":
        is_whole = ours.type == theirs.type == statistics_pb2.FeatureNameStatistics.INT
        edges = _edges([ours, theirs]) if is_whole else []
        value = jensen_shannon(_comparable(ours, edges), _comparable(theirs, edges))
        return Distance(value=value, threshold=threshold, measure="Jensen-Shannon divergence")
    return None


def l_infinity(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Return the largest difference of a value's share, 0 to 1.

    Args:
        ours: rows by value.
        theirs: rows by value, of the other distribution.
    """
    totals = (sum(ours.values()) or 1.0), (sum(theirs.values()) or 1.0)
    return max(
        (abs(ours.get(value, 0) / totals[0] - theirs.get(value, 0) / totals[1]) for value in {*ours, *theirs}),
        default=0.0,
    )


def jensen_shannon(ours: Sequence[tuple[float, float, float]], theirs: Sequence[tuple[float, float, float]]) -> float:
    """Return the Jensen-Shannon divergence of two histograms, to the base 2: 0 for equal ones, 1 for disjoint ones.

    Both are brought onto the bounds of both, as TFDV does (data_validation/anomalies/metrics.cc).

    Args:
        ours: lower bound, upper bound and rows of each bar.
        theirs: the same of the other histogram.
    """
    found = (*ours, *theirs)
    points = [np.nextafter(low, np.inf) for low, high, _ in found if low == high]  # a bar of their own
    edges = np.unique([*points, *(bound for bucket in found for bound in bucket[:2])])
    if len(edges) < 2:
        return 0.0
    first, second = (mass / (mass.sum() or 1.0) for mass in (_spread(ours, edges), _spread(theirs, edges)))
    middle = (first + second) / 2
    return float(sum(_relative_entropy(part, middle) for part in (first, second)) / 2)


def _relative_entropy(part: Array, whole: Array) -> float:
    there = part > 0
    return float((part[there] * np.log2(part[there] / whole[there])).sum())


def label_noise(folder: Path) -> LabelNoise | None:
    """Return how much of the label the features leave unexplained; None if this was not examined.

    Args:
        folder: The folder of the anomalies artifact.
    """
    path = folder / LABEL_NOISE
    return LabelNoise.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def texts(folder: Path) -> list[TextStatistics]:
    """Return the statistics of texts by column and split; empty without texts.

    Args:
        folder: The folder of the anomalies artifact.
    """
    path = folder / TEXTS
    return [TextStatistics(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def spans(properties: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield span and fingerprint of the examples, by name of the fact.

    Args:
        properties: custom properties of the examples artifact.
    """
    span = properties.get("span")
    if span is not None:
        yield "span", int(span)
    if fingerprint := properties.get("input_fingerprint"):
        yield "fingerprint", str(fingerprint)

"""What the server counts, under TensorFlow Serving's names, and its Prometheus page.

Requests are counted in the event loop's thread alone, where the page is also written. The thread of the request log
counts what it writes, under status codes of its own.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.utils import floatToGoString

from kubetfx.serving.status import Code

_PREFIX = ":tensorflow:serving:"
_COUNTERS = ("request_count", "request_example_count_total", "request_log_count")
_MAX_UNKNOWN_MODELS = 100
"""Maximum number of names of models that are not served, by which requests are counted: clients cannot grow the page
further."""
_LATENCY_BOUNDS = tuple(10 * 1.8**exponent for exponent in range(33))
"""Microseconds, to about 20 minutes: monitoring::Buckets::Exponential(10, 1.8, 33)."""
_EXAMPLE_BOUNDS = tuple(float(2**exponent) for exponent in range(15))


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_samples(self, metric: Metric, labels: dict[str, str]) -> None:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        cumulative = list(accumulate(self._counts))
        for bound, count in zip(bounds, cumulative, strict=True):
            metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
        metric.add_sample(f"{metric.name}_sum", labels, self._sum)
        metric.add_sample(f"{metric.name}_count", labels, cumulative[-1])


class _Histograms:
    """A histogram per combination of labels."""

    def __init__(self, name: str, what: str, labels: Sequence[str], bounds: tuple[float, ...]) -> None:
        self._name = name
        self._what = what
        self._labels = labels
        self._bounds = bounds
        self._histograms: dict[tuple[str, ...], _Histogram] = {}

    def observe(self, value: float, *labels: str) -> None:
        histogram = self._histograms.get(labels)
        if histogram is None:
            histogram = self._histograms[labels] = _Histogram(self._bounds)
        histogram.observe(value)

    def metric(self) -> Metric:
        metric = Metric(f"{_PREFIX}{self._name}", self._what, "histogram")
        for labels, histogram in list(self._histograms.items()):  # a load may be recorded meanwhile, by another thread
            histogram.add_samples(metric, dict(zip(self._labels, labels, strict=True)))
        return metric


class Metrics:
    """Counters and histograms of one server. A collector in prometheus-client's sense."""

    def __init__(self) -> None:
        time = "Distribution of wall time (in microseconds) of"
        self._requests: Counter[tuple[str, str]] = Counter()
        self._unknown_models: set[str] = set()
        self._latencies = _Histograms(
            "request_latency", f"{time} requests.", ("model_name", "API", "entrypoint"), _LATENCY_BOUNDS
        )
        self._runtimes = _Histograms(
            "runtime_latency", f"{time} graph calls.", ("model_name", "API", "runtime"), _LATENCY_BOUNDS
        )
        self._loads = _Histograms("load_latency", f"{time} loads.", ("model_name",), _LATENCY_BOUNDS)
        self._examples = _Histograms(
            "request_example_counts", "The number of tf.Examples per request.", ("model",), _EXAMPLE_BOUNDS
        )
        self._example_totals: Counter[str] = Counter()
        self._logged: Counter[tuple[str, str]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count_request(
        self, model: str, api: str, entrypoint: str, code: Code, seconds: float, *, is_served: bool
    ) -> None:
        """Count a request and, if it succeeded, its time.

        Args:
            model: the name that was asked for.
            is_served: whether there is such a model.
            api: `Predict`, `Classify`, ... over gRPC, `predict`, `classify`, ... over REST.
            entrypoint: `GRPC` or `REST`.
            code: how it ended.
            seconds: its time in the server.
        """
        if not is_served and model not in self._unknown_models:
            if len(self._unknown_models) < _MAX_UNKNOWN_MODELS:
                self._unknown_models.add(model)
            else:
                model = ""
        self._requests[model, code.name] += 1
        if code is Code.OK:
            self._latencies.observe(seconds * 1e6, model, api, entrypoint)

    def observe_runtime(self, model: str, api: str, seconds: float) -> None:
        """Record the time of a call of a graph.

        Args:
            model: the model's name.
            api: `Predict`, `Classify`, `Regress` or `MultiInference`.
            seconds: its time, including the wait for a thread.
        """
        self._runtimes.observe(seconds * 1e6, model, api, "TF1")

    def count_examples(self, model: str, count: int) -> None:
        """Record how many tf.Examples a request has.

        Args:
            model: the model's name.
            count: The number of tf.Examples.
        """
        self._examples.observe(count, model)
        self._example_totals[model] += count

    def observe_load(self, model: str, seconds: float) -> None:
        """Record the time of a load. May be called from the thread that loads models.

        Args:
            model: the model's name.
            seconds: from the first look at its files to the end of its warm-up.
        """
        self._loads.observe(seconds * 1e6, model)

    def count_logged(self, model: str, code: Code, count: int) -> None:
        """Count sampled requests of the request log.

        Args:
            model: the model's name.
            code: OK, they are in the log; RESOURCE_EXHAUSTED, too many waited to be written; UNAVAILABLE, the log could
                not be written.
            count: The number of requests.
        """
        self._logged[model, code.name] += count

    def collect(self) -> Iterator[Metric]:
        """Yield what the page shows, for prometheus-client."""
        requests = Metric(f"{_PREFIX}request_count", "The total number of requests.", "unknown")
        for (model, status), count in self._requests.items():
            requests.add_sample(requests.name, {"model_name": model, "status": status}, count)
        yield requests
        yield from (each.metric() for each in (self._latencies, self._runtimes, self._examples))
        total = Metric(f"{_PREFIX}request_example_count_total", "The total number of tf.Examples.", "unknown")
        for model, count in self._example_totals.items():
            total.add_sample(total.name, {"model": model}, count)
        yield total
        yield self._loads.metric()
        logged = Metric(
            f"{_PREFIX}request_log_count",
            "The total number of requests logged from the model server sliced down by model_name and status code.",
            "unknown",
        )
        for (model, status), count in list(self._logged.items()):
            logged.add_sample(logged.name, {"model_name": model, "status_code": status}, count)
        yield logged

    def page(self) -> bytes:
        """Return the page in Prometheus's text format.

        TensorFlow Serving's counters have no `_total` at the end of their names, without which prometheus-client takes
        nothing for a counter.
        """
        page: bytes = generate_latest(self._registry)
        for name in _COUNTERS:
            page = page.replace(f"# TYPE {_PREFIX}{name} untyped".encode(), f"# TYPE {_PREFIX}{name} counter".encode())
        return page

    def first_value(self, name: str) -> int:
        """Return the value that ReloadConfig reports for a metric: its first one, and 0 for a histogram.

        Args:
            name: The name of the metric, such as `/tensorflow/serving/request_count`; an unknown one has 0.
        """
        counts: Mapping[str, Counter[Any]] = {
            "request_count": self._requests,
            "request_example_count_total": self._example_totals,
            "request_log_count": self._logged,
        }
        found = counts.get(name.removeprefix("/tensorflow/serving/"))
        return next(iter(found.values()), 0) if found else 0

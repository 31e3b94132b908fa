"""What the server counts, under TensorFlow Serving's names, and its Prometheus page.

Requests are counted in the event loop's thread alone, where the page is also written.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.utils import floatToGoString

from kubetfx.serving.status import Code

_PREFIX = ":tensorflow:serving:"
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


class Metrics:
    """Counters and histograms of one server. A collector in prometheus-client's sense."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str], int] = {}
        self._latencies: dict[tuple[str, str, str], _Histogram] = {}
        self._runtimes: dict[tuple[str, str], _Histogram] = {}
        self._examples: dict[str, _Histogram] = {}
        self._example_totals: dict[str, int] = {}
        self._loads: dict[str, _Histogram] = {}
        self._loads_lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count_request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """Count a request and, if it succeeded, its time.

        Args:
            model: the model's name; only names of models that are served, so that clients can't grow the page.
            api: `Predict`, `Classify`, ... over gRPC, `predict`, `classify`, ... over REST.
            entrypoint: `GRPC` or `REST`.
            code: how it ended.
            seconds: its time in the server.
        """
        key = model, code.name
        self._requests[key] = self._requests.get(key, 0) + 1
        if code is Code.OK:
            latency = self._latencies.get((model, api, entrypoint))
            if latency is None:
                latency = self._latencies[model, api, entrypoint] = _Histogram(_LATENCY_BOUNDS)
            latency.observe(seconds * 1e6)

    def observe_runtime(self, model: str, api: str, seconds: float) -> None:
        """Record the time of a call of a graph, its wait for a thread included."""
        runtime = self._runtimes.get((model, api))
        if runtime is None:
            runtime = self._runtimes[model, api] = _Histogram(_LATENCY_BOUNDS)
        runtime.observe(seconds * 1e6)

    def count_examples(self, model: str, count: int) -> None:
        """Record the tf.Examples of a request."""
        self._examples.setdefault(model, _Histogram(_EXAMPLE_BOUNDS)).observe(count)
        self._example_totals[model] = self._example_totals.get(model, 0) + count

    def observe_load(self, model: str, version: int, seconds: float) -> None:
        """Record the time of a load. May be called from any thread."""
        del version
        with self._loads_lock:
            self._loads.setdefault(model, _Histogram(_LATENCY_BOUNDS)).observe(seconds * 1e6)

    def collect(self) -> Iterator[Metric]:
        """What the page shows, for prometheus-client."""
        requests = Metric(f"{_PREFIX}request_count", "The total number of requests.", "unknown")
        for (model, status), count in self._requests.items():
            requests.add_sample(requests.name, {"model_name": model, "status": status}, count)
        yield requests
        latency = Metric(
            f"{_PREFIX}request_latency", "Distribution of wall time (in microseconds) of requests.", "histogram"
        )
        for (model, api, entrypoint), histogram in self._latencies.items():
            histogram.add_samples(latency, {"model_name": model, "API": api, "entrypoint": entrypoint})
        yield latency
        runtime = Metric(
            f"{_PREFIX}runtime_latency", "Distribution of wall time (in microseconds) of graph calls.", "histogram"
        )
        for (model, api), histogram in self._runtimes.items():
            histogram.add_samples(runtime, {"model_name": model, "API": api, "runtime": "TF1"})
        yield runtime
        yield from self._collect_examples()
        loads = Metric(f"{_PREFIX}load_latency", "Distribution of wall time (in microseconds) of loads.", "histogram")
        with self._loads_lock:
            for model, histogram in self._loads.items():
                histogram.add_samples(loads, {"model_name": model})
        yield loads

    def page(self) -> bytes:
        """The page in Prometheus's text format."""
        return generate_latest(self._registry)

    def _collect_examples(self) -> Iterator[Metric]:
        counts = Metric(f"{_PREFIX}request_example_counts", "The number of tf.Examples per request.", "histogram")
        for model, histogram in self._examples.items():
            histogram.add_samples(counts, {"model": model})
        yield counts
        total = Metric(f"{_PREFIX}request_example_count_total", "The total number of tf.Examples.", "unknown")
        for model, count in self._example_totals.items():
            total.add_sample(total.name, {"model": model}, count)
        yield total

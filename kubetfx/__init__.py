"""From a table, images or text to a model in production: a Kubernetes-native TFX pipeline.

    import kubetfx

    config = kubetfx.load_config("pipeline.yaml", overrides={"training.epochs": 3})
    run = kubetfx.run(config)
    run.blessed, run.metrics["accuracy"], run.pushed_version, run.report_path

Names are imported when they are used: `import kubetfx` itself takes no time and imports no library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubetfx import errors, progress
    from kubetfx.components.evaluation.metric import Metric, metric
    from kubetfx.config.loading import load_config
    from kubetfx.config.pipeline import PipelineConfig
    from kubetfx.kubeflow.airflow_dag import airflow_dag
    from kubetfx.kubeflow.compilation import compile
    from kubetfx.kubeflow.lint import lint
    from kubetfx.kubeflow.submission import submit
    from kubetfx.pipeline.definition import Definition, create_pipeline
    from kubetfx.pipeline.fan_out import fan_out
    from kubetfx.pipeline.lineage import lineage
    from kubetfx.pipeline.monitoring import MonitorResult, monitor
    from kubetfx.pipeline.promoting import approve, promote
    from kubetfx.pipeline.pruning import prune
    from kubetfx.pipeline.pushed_models import load_model
    from kubetfx.pipeline.run_result import RunResult
    from kubetfx.pipeline.running import run, run_node
    from kubetfx.pipeline.tracking import track
    from kubetfx.pipeline.tuning_run import tune
    from kubetfx.serving.model import Model
    from kubetfx.serving.remote_model import Client

_OWNERS = {
    "Client": "kubetfx.serving.remote_model",
    "Definition": "kubetfx.pipeline.definition",
    "Model": "kubetfx.serving.model",
    "Metric": "kubetfx.components.evaluation.metric",
    "MonitorResult": "kubetfx.pipeline.monitoring",
    "PipelineConfig": "kubetfx.config.pipeline",
    "RunResult": "kubetfx.pipeline.run_result",
    "airflow_dag": "kubetfx.kubeflow.airflow_dag",
    "approve": "kubetfx.pipeline.promoting",
    "compile": "kubetfx.kubeflow.compilation",
    "create_pipeline": "kubetfx.pipeline.definition",
    "fan_out": "kubetfx.pipeline.fan_out",
    "lineage": "kubetfx.pipeline.lineage",
    "lint": "kubetfx.kubeflow.lint",
    "load_config": "kubetfx.config.loading",
    "load_model": "kubetfx.pipeline.pushed_models",
    "metric": "kubetfx.components.evaluation.metric",
    "promote": "kubetfx.pipeline.promoting",
    "monitor": "kubetfx.pipeline.monitoring",
    "prune": "kubetfx.pipeline.pruning",
    "run": "kubetfx.pipeline.running",
    "run_node": "kubetfx.pipeline.running",
    "submit": "kubetfx.kubeflow.submission",
    "track": "kubetfx.pipeline.tracking",
    "tune": "kubetfx.pipeline.tuning_run",
}
"""The module that owns each public name."""
_MODULES = ("errors", "progress")

__all__ = [
    "Client",
    "Definition",
    "Metric",
    "Model",
    "MonitorResult",
    "PipelineConfig",
    "RunResult",
    "__version__",
    "airflow_dag",
    "approve",
    "compile",
    "create_pipeline",
    "errors",
    "fan_out",
    "lineage",
    "lint",
    "load_config",
    "load_model",
    "metric",
    "monitor",
    "progress",
    "promote",
    "prune",
    "run",
    "run_node",
    "submit",
    "track",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from kubetfx.version import own_version

        value: Any = own_version()
    elif name in _MODULES:
        value = importlib.import_module(f"kubetfx.{name}")
    elif name in _OWNERS:
        value = getattr(importlib.import_module(_OWNERS[name]), name)
    else:
        raise AttributeError(f"module 'kubetfx' has no attribute {name!r}. It has: {', '.join(__all__)}.")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The analyses for trials: that of Transform, and one for each other choice of features."""

import functools
import importlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from kubetfx.artifacts import SCHEMA
from kubetfx.components.data import analysis, table_profile
from kubetfx.components.data.analysis_graphs import Unsupported
from kubetfx.components.data.block_work import run_here
from kubetfx.components.schema_gen import complete_schema, infer_schema, read_statistics
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.metric_catalogue import Task
from kubetfx.config.model_section import DEFAULT_MODULE
from kubetfx.config.tunable_keys import OF_ROLES
from kubetfx.cores import num_cores
from kubetfx.errors import TrainingError
from kubetfx.models.examples import row_groups
from kubetfx.models.features import read_features, read_schema


@dataclass(frozen=True)
class Analysis:
    """The schema and graph that make features."""

    schema_path: str
    transform_graph_path: str


@dataclass(frozen=True)
class AnalysisSources:
    """The sources of an analysis."""

    given: Analysis
    """That of the Transform, with the features of the config."""
    train_files: tuple[str, ...]
    statistics_files: tuple[str, ...]
    """Statistics files of the splits."""
    examples: str
    """Folder of the examples, with the profile of the table."""
    custom_config: Mapping[str, Any]
    """Custom config of the Transform."""
    task: Task


class Analyses:
    """Analyses by the section `features`; each is made once in a process.

    Args:
        sources: what they are made from.
        folder: where they are written.
    """

    def __init__(self, sources: AnalysisSources, folder: Path) -> None:
        self._sources = sources
        self._folder = folder
        self._made = {_key(sources.custom_config["features"]): sources.given}

    def of(self, features: Mapping[str, Any]) -> Analysis:
        """Return the analysis for a choice of features.

        Args:
            features: that section of the config.

        Raises:
            TrainingError: only tf.Transform can analyze the preprocessing_fn.
        """
        key = _key(features)
        if key not in self._made:
            self._made[key] = self._make(features, self._folder / f"analysis-{len(self._made)}")
        return self._made[key]

    def _make(self, features: Mapping[str, Any], output: Path) -> Analysis:
        output.mkdir(parents=True)
        schema_path = output / SCHEMA
        schema_path.write_text(self._schema(features), encoding="utf-8")
        custom_config = {**self._sources.custom_config, "features": features, "schema_path": str(schema_path)}
        module = importlib.import_module(custom_config["model"]["module"] or DEFAULT_MODULE)
        groups = [group for group, _ in row_groups(list(self._sources.train_files))]
        with tempfile.TemporaryDirectory(prefix=".analysis-", dir=output) as temporary:
            try:
                analysis.analyze(
                    functools.partial(module.preprocessing_fn, custom_config=custom_config),
                    read_schema(str(schema_path)),
                    run=lambda phase: run_here(phase, groups, threads=num_cores()),
                    output=output / "graph",
                    temporary=Path(temporary),
                )
            except Unsupported as reason:
                raise TrainingError(
                    "Keys of features can be searched with preprocessing that kubetfx analyzes itself. Received: the "
                    f"analyzer {reason} in {custom_config['model']['module']}. Leave them out of tuning.search."
                ) from None
        return Analysis(str(schema_path), str(output / "graph"))

    def _schema(self, features: Mapping[str, Any]) -> str:
        """Return the schema with the roles under other settings; unchanged if no role depends on them."""
        sources = self._sources
        text = Path(sources.given.schema_path).read_text(encoding="utf-8")
        before = sources.custom_config["features"]
        if all(features[key] == before[key] for key in OF_ROLES):
            return text
        known = read_features(read_schema(sources.given.schema_path))
        schema = infer_schema(read_statistics([Path(file) for file in sources.statistics_files]))
        complete_schema(
            schema,
            table_profile.read(Path(sources.examples)),
            label=known.label,
            task=sources.task,
            config=FeaturesConfig.model_validate(features),
            weight=known.weight,
        )
        return str(text_format.MessageToString(schema))


def _key(features: Mapping[str, Any]) -> str:
    return json.dumps(features, sort_keys=True)

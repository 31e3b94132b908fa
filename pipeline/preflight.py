"""Checks before any work starts: that config, data, disk and server fit together."""

import ast
import importlib.util
import os
import re
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from kubetfx.artifacts import CONTENT_HASH
from kubetfx.components.data import beam_mode, data_source, image_files, picture_columns, table_profile, tables
from kubetfx.components.data.column_roles import choose_role
from kubetfx.components.data.span_store import FOLDER, SpanStore
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.push import push_directory
from kubetfx.config.data_section import MODEL_OUTPUTS
from kubetfx.config.model_section import NO_PICTURES
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.config.serving_section import EndpointConfig
from kubetfx.config.yaml_text import in_one_line
from kubetfx.engine import arguments as engine_arguments
from kubetfx.errors import ConfigError, DataError, StorageError, UsageError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.text.pretrained_folder import PretrainedFolder
from kubetfx.models.features import IMAGE
from kubetfx.models.row_weights import check_weights
from kubetfx.progress import Begin, End, Message, Progress
from kubetfx.proxies import proxy_of
from kubetfx.storage import Location, check_writable, nearest_existing
from kubetfx.tables.files import TableFiles
from kubetfx.user_code import check_imports
from kubetfx.workspace import METADATA

_MAX_CLASSES = 1_000
_ROWS_OF_CLASSES = 20
"""Rows of which no two have the same label: in fewer, it may be chance."""
_MAX_SLICES = 1_000
_MAX_NOTES = 10
_CONNECT_SECONDS = 5.0
_UNIQUE_PROPERTIES = ("brightness", CONTENT_HASH, "num_bytes", image_files.PATH)
"""Properties of images of which nearly every image has another value."""


def check(config: PipelineConfig) -> table_profile.TableProfile | image_files.ImageFiles:
    """Scan the data, and check that the config fits it.

    Args:
        config: The config of the pipeline. Modules of the user's must be importable.

    Returns:
        The result of the scan: the columns of a table, or the files of images.

    Raises:
        ConfigError: the config names columns, classes, modules, metrics or variables of the environment that do not
            exist, a pretrained encoder that is not understood, or a module imports kubetfx by a former name.
        DataError: the table cannot be read, or its label cannot be learned.
        UsageError: the workspace or the push directory cannot be written, or the server of `serving.endpoint` cannot
            be reached.
    """
    check_imports(config.own_modules)
    _check_module(config.model.module, key="model.module")
    _check_module(config.training.loss, key="training.loss")
    for name in config.training.callbacks:
        _check_module(name, key="training.callbacks")
    for name in config.evaluation.own_metrics:
        metric = find_metric(name, task=config.model.task)
        threshold = config.evaluation.thresholds.get(name)
        if threshold and (problem := threshold.wrong_side(metric.better)):
            raise ConfigError(f"evaluation.thresholds.{name}: {problem}.")
    if config.features.text_encoder.pretrained is not None:
        PretrainedFolder(config.features.text_encoder.pretrained).check()
    engine_arguments.check(config.beam)
    _check_no_pattern(config.workspace_path, section="workspace")
    _check_no_pattern(config.push_path, section="serving.push_directory")
    check_workspace(config)
    _check_place(config.push_path, section="serving.push_directory")
    if config.serving.endpoint and push_directory.versions(config.push_path):  # a server without any may not listen
        _check_reachable(config.serving.endpoint)
    if config.data.format == "images":
        return _check_images(config)
    data_source.fetched(config.data, anew=True)
    files = tables.find_files(config.data)
    profile = tables.inspect_table(files, config.data, store=_store_of(config))
    profile = picture_columns.with_pictures(profile, files, config.data, named=config.features.image)
    _check_known(config.data.drop, tables.column_names(files, config.data), section="data.drop", what="column")
    check_profile(profile, config)
    _check_weights(profile, files, config)
    return profile


def check_and_tell(config: PipelineConfig, progress: Progress) -> None:
    """Check, and report the findings.

    Args:
        config: The config of the pipeline. Modules of the user's must be importable.
        progress: is given the messages.

    Raises:
        UsageError: see `check`.
    """
    progress(Begin("Checking the data"))
    found = check(config)
    progress(End())
    progress(Message(f"Data: {describe(found, config)}"))
    for note in notes(found):
        progress(Message(f"  {note}"))


def _store_of(config: PipelineConfig) -> SpanStore | None:
    workspace = config.workspace_path
    return SpanStore(workspace / FOLDER) if isinstance(workspace, Path) else None


def _check_no_pattern(folder: Location, *, section: str) -> None:
    if re.search(r"[*?\[\\]", str(folder)):
        raise UsageError(
            f"{section}: TensorFlow takes *, ?, [ and \\ in a path for a pattern, and finds no file there. Received: "
            f"{folder}. Choose another folder, {section}: {Path.home() / folder.name} for example; the data may stay."
        )


def check_profile(profile: table_profile.TableProfile, config: PipelineConfig) -> None:
    """Check that a config fits what a scan of its table found.

    Args:
        profile: The profile of the table.
        config: The config of the pipeline.

    Raises:
        ConfigError: the config names columns or classes that do not exist, or another task than the label is of.
        DataError: the label cannot be learned, or no column can be a feature.
    """
    label = tables.check_label(profile, config.data)
    _check_label_fits_task(label, config)
    _check_columns(profile, config)


def describe(found: table_profile.TableProfile | image_files.ImageFiles, config: PipelineConfig) -> str:
    """Return in a few words what `check` found, and how the nodes will go through it.

    Args:
        found: by `check`.
        config: The config of the pipeline.
    """
    if isinstance(found, image_files.ImageFiles):
        text = f"{len(found.files):,} images, {len(found.classes):,} classes"
        options = config.beam.command_line
        return f"{text}, {beam_mode.describe(options)}" if options else text
    text = f"{found.num_rows:,} rows, {len(found.columns)} columns"
    text += f", {beam_mode.describe(config.beam.command_line)}"
    limit = config.data.statistics_rows
    if limit and found.num_rows > limit:
        text += f"; statistics, and anomalies, of a sample of about {limit:,} rows (data.statistics_rows)"
    return text


def notes(found: table_profile.TableProfile | image_files.ImageFiles) -> list[str]:
    """Describe surprises in how a table was read.

    Args:
        found: what `check` returned.

    Returns:
        A limited number of sentences.
    """
    said = found.notes if isinstance(found, table_profile.TableProfile) else []
    rest = (
        [f"And {len(said) - _MAX_NOTES:,} columns more; the report lists them all."] if len(said) > _MAX_NOTES else []
    )
    return [*said[:_MAX_NOTES], *rest]


def _check_images(config: PipelineConfig) -> image_files.ImageFiles:
    weights = config.model.weights
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise ConfigError(f"model.weights: there is no such file. Received: {weights}. Give a .weights.h5 file.")
    found = image_files.find_images(config.data)
    if len(found.classes) > _MAX_CLASSES:
        raise ConfigError(
            f"A classification needs at most {_MAX_CLASSES:,} classes. Received: {len(found.classes):,} in "
            f"{config.data.path}. Is it the folder of the classes?"
        )
    if isinstance(config.training.class_weights, dict):
        _check_known(config.training.class_weights, list(found.classes), section="training.class_weights", what="class")
    columns = sorted({*image_files.OWN_COLUMNS, *found.metadata_types, config.data.label} - {image_files.IMAGE})
    slices = _sliced_columns(config)
    _check_known(slices, columns, section="evaluation.slices", what="column")
    for name in slices:
        if name in _UNIQUE_PROPERTIES:
            _check_slice(name, num_distinct=len(found.files))
        elif name in found.metadata_types:
            _check_slice(name, num_distinct=len({file.metadata.get(name) for file in found.files}))
    _check_known(config.validation.features, columns, section="validation.features", what="column")
    return found


def _check_module(reference: str | None, *, key: str) -> None:
    """Check that a module can be found and parsed, and has the name that `module:name` asks for, without running it."""
    if reference is None:
        return
    module, _, name = reference.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        problem = None if spec else "there is no such module"
        if spec and spec.origin and spec.origin.endswith(".py"):
            tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"), filename=spec.origin)
            if name and name not in (defined := _defined_in(tree)):
                problem = f"it has no {name!r}{nearest(name, defined)}"
    except Exception as error:  # importing a parent package runs code of the user
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise ConfigError(
            f"{key} cannot be imported. Received: {reference!r} ({problem}). "
            "Give the import path of a module that is installed or is beside pipeline.yaml, without .py."
        )


def _defined_in(tree: ast.Module) -> list[str]:
    """Return names at the top of a module."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
    return names


def check_workspace(config: PipelineConfig) -> None:
    """Check that the workspace can be written, here and in its bucket.

    Args:
        config: The config of the pipeline.

    Raises:
        UsageError: it cannot, or its runs have their artifacts in another place.
    """
    check_folder(config.workspace_path, section="workspace")
    config.artifacts.check(config.workspace_path / METADATA)
    if config.artifacts.bucket is not None:
        _check_no_pattern(config.artifacts.bucket, section="workspace")
        _check_place(config.artifacts.bucket, section="workspace")


def _check_place(place: Location, *, section: str) -> None:
    if isinstance(place, Path):
        check_folder(place, section=section)
        return
    try:
        check_writable(place)
    except StorageError as error:
        raise UsageError(f"{section} cannot be written. {error}") from None


def check_folder(folder: Path, *, section: str) -> None:
    """Check that a folder can be written, or made.

    Args:
        folder: on this machine.
        section: key of the config that names it.

    Raises:
        UsageError: it cannot.
    """
    try:
        existing = nearest_existing(folder)
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"{section} cannot be written. Received: {folder} ({reason}). "
            f"Grant write permission, or set another {section}."
        ) from None


def _check_reachable(endpoint: EndpointConfig) -> None:
    """Check that a server listens, since the error would otherwise appear only after the training."""
    addresses = {"rest": endpoint.rest, "grpc": endpoint.grpc}
    for key, address in addresses.items():
        if address is None or proxy_of(address):
            continue
        url = urlsplit(address if "://" in address else f"//{address}")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            socket.create_connection((url.hostname or "", port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            raise UsageError(
                f"serving.endpoint.{key} cannot be reached. Received: {address} ({error}). Start the server that "
                "watches the push directory, or leave serving.endpoint out."
            ) from None


def _check_label_fits_task(label: ColumnProfile, config: PipelineConfig) -> None:
    name = config.data.label
    if config.model.task == "regression":
        if label.type == "string":
            raise ConfigError(
                f"data.label: a regression needs numbers, and {name!r} holds text. Received: "
                f"{', '.join(map(str, label.values[:5]))}. Set model.task: classification, or choose another label."
            )
        return
    if label.num_distinct is None or label.num_distinct > _MAX_CLASSES:
        kind = "decimal numbers" if label.type == "float" else f"more than {_MAX_CLASSES:,} distinct values"
        remedy = "Put rare classes together" if label.type == "string" else "Set model.task: regression"
        raise ConfigError(
            f"data.label: a classification needs at most {_MAX_CLASSES:,} classes. Received: {name!r} with {kind}. "
            f"{remedy}, or choose another label."
        )
    if label.num_distinct == label.num_values >= _ROWS_OF_CLASSES:
        remedy = "Choose another label" if label.type == "string" else "Set model.task: regression"
        raise ConfigError(
            f"data.label: every label is different, so no row says anything about another one's class. Received: "
            f"{name!r} with {label.num_distinct:,} classes in as many rows. {remedy}, or put classes together."
        )
    weights = config.training.class_weights
    if isinstance(weights, dict):
        classes = [str(value) for value in label.values]
        _check_known(weights, classes, section="training.class_weights", what="class")


def _check_weights(profile: table_profile.TableProfile, files: TableFiles, config: PipelineConfig) -> None:
    weight = config.training.sample_weight
    if weight is None:
        return
    _check_known([weight], profile.names, section="training.sample_weight", what="column")
    if pictures := [column.name for column in profile.columns if column.picture_reason]:
        raise ConfigError(
            f"training.sample_weight is for tables without pictures. Received: {weight!r}, and a column of pictures, "
            f"{pictures[0]!r}. Leave either out."
        )
    columns = [profile.column(weight), profile.column(config.data.label)]
    blocks = (
        (Path(path).name, block)
        for path in files.paths
        for block in tables.read_blocks(path, columns, file_format=files.format, data=config.data)
    )
    check_weights(blocks, column=weight, label=config.data.label)


def _own_role(column: ColumnProfile) -> str:
    return "categorical" if column.type == "string" else "numeric"


def _check_columns(profile: table_profile.TableProfile, config: PipelineConfig) -> None:
    features = [name for name in profile.names if name not in (config.data.label, config.training.sample_weight)]
    if not features:
        raise DataError(
            f"The table has no column besides the label {config.data.label!r}: there is nothing to learn from."
        )
    if clashes := [name for name in features if name in MODEL_OUTPUTS]:
        raise DataError(
            f"Column {clashes[0]!r} has the name of something that the model returns "
            f"({', '.join(sorted(MODEL_OUTPUTS))}). Rename it, or leave it out: data.drop: {in_one_line(clashes)}"
        )
    roles = [choose_role(profile.column(n), num_rows=profile.num_rows, config=config.features)[0] for n in features]
    if all(role == "excluded" for role in roles):
        raise DataError(
            "No column can be a feature: each has the same value in every row, another one in every row, or none. "
            f"Received: {', '.join(features)}. Add others; or say in pipeline.yaml that one is used nevertheless, "
            f"features: {in_one_line({_own_role(profile.column(features[0])): features[:1]})} for example."
        )
    if config.model.kind == "trees" and IMAGE in roles:
        raise ConfigError(NO_PICTURES.format(column=features[roles.index(IMAGE)]))
    slices, folds = _sliced_columns(config), config.evaluation.cross_validation
    for section, names in {
        **{f"features.{key}": names for key, names in config.features.by_role.items() if key != "image"},
        "data.types": [name for name in config.data.types if name not in config.data.drop],  # it may decide on splits
        "evaluation.slices": slices,
        **{f"evaluation.cross_validation.{key}": [name] for key, name in (folds.columns if folds else {}).items()},
        "validation.features": config.validation.features,
    }.items():
        _check_known(names, profile.names, section=section, what="column")
    for name in slices:
        column = profile.column(name)
        _check_slice(name, num_distinct=column.num_distinct, is_list=column.lists is not None)
    _check_named_roles(profile, config)


def _check_named_roles(profile: table_profile.TableProfile, config: PipelineConfig) -> None:
    held = {"string": "text", "float": "decimal numbers", "int64": "whole numbers"}
    for key, kind, right, fits in (
        ("numeric", "number", "numbers", lambda column: column.type != "string"),
        ("categorical", "text", "text or whole numbers", lambda column: column.type != "float"),
        ("date", "date", "dates", lambda column: bool(column.dates)),
        ("list", "list", "lists", lambda column: column.lists is not None),
        ("text", "text", "text", lambda column: column.type == "string"),
    ):
        for name in config.features.by_role[key]:
            if not fits(column := profile.column(name)):
                raise ConfigError(
                    f"features.{key}: a column of {right} is needed here. Received: {name!r}, which holds "
                    f"{held[column.type]}. If it can be read as such, say data.types: {in_one_line({name: kind})}"
                )


def _sliced_columns(config: PipelineConfig) -> list[str]:
    return [column for columns in config.evaluation.sliced for column in columns]


def _check_slice(name: str, *, num_distinct: int | None, is_list: bool = False) -> None:
    if is_list:
        raise ConfigError(f"evaluation.slices: a column of one value per row is needed. Received: {name!r}, of lists.")
    if num_distinct is None or num_distinct > _MAX_SLICES:
        raise ConfigError(
            f"evaluation.slices: a column with at most {_MAX_SLICES:,} distinct values is needed. "
            f"Received: {name!r}, with {num_distinct or 'many'}."
        )


def _check_known(names: Iterable[str], known: list[str], *, section: str, what: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{section}: the data has no {what} {name!r}.{nearest(name, known)} Known: {', '.join(known)}."
            )

"""TensorFlow Serving's ModelServerConfig: what is served, from where, in which versions, and what is logged."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import (
    file_system_storage_path_source_pb2,
    model_server_config_pb2,
)

from kubetfx.errors import UsageError
from kubetfx.serving.status import Code, ServingError, invalid_argument
from kubetfx.storage import Location, locate

LOG_TYPES = ("", "tfrecord")
"""Types of a LogCollectorConfig that are taken: TensorFlow Serving itself knows none, whoever builds it adds some."""
_PLATFORM = "tensorflow"
_DEPRECATED_TENSORFLOW = 1


@dataclass(frozen=True)
class LatestVersions:
    """Serve the versions with the greatest numbers."""

    count: int = 1
    """Number of versions."""

    def choose(self, versions: Iterable[int]) -> set[int]:
        """Return the versions to serve.

        Args:
            versions: those that there are.
        """
        return set(sorted(versions)[-self.count :])


@dataclass(frozen=True)
class AllVersions:
    """Serve every version."""

    def choose(self, versions: Iterable[int]) -> set[int]:
        """Return the versions to serve.

        Args:
            versions: those that there are.
        """
        return set(versions)


@dataclass(frozen=True)
class SpecificVersions:
    """Serve the versions named here."""

    versions: frozenset[int]

    def choose(self, versions: Iterable[int]) -> set[int]:
        """Return the versions to serve.

        Args:
            versions: those that there are.
        """
        return set(self.versions) & set(versions)


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


@dataclass(frozen=True)
class RequestLogging:
    """Which requests of a model are logged, and where: TensorFlow Serving's LoggingConfig."""

    prefix: Location
    """How the names of the log's files begin, with the folder."""
    sampling_rate: float
    """Share of the requests, from 0 to 1."""


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve."""

    name: str
    """Name that clients ask for."""
    base_path: Path
    """Folder of numbered versions."""
    policy: VersionPolicy = LatestVersions()
    """Which of the versions are served."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Version by label."""
    logging: RequestLogging | None = None
    """Which requests are logged. None: what the server's own options say."""


def read_model_config_file(path: Path) -> tuple[ModelConfig, ...]:
    """Read the models to serve from a file.

    Args:
        path: a ModelServerConfig in protobuf's text format.

    Returns:
        A config per model, in the file's order.

    Raises:
        UsageError: the file cannot be read, or is not such a configuration.
    """
    try:
        message = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
        return from_message(message)
    except (OSError, UnicodeDecodeError, text_format.ParseError, ServingError) as error:
        raise UsageError(
            f"`model_config_file` is not a ModelServerConfig in protobuf's text format: {error}. Received: {path}. "
            "See https://www.tensorflow.org/tfx/serving/serving_config."
        ) from None


def from_message(
    message: model_server_config_pb2.ModelServerConfig, *, is_served: Callable[[str], bool] = lambda _: False
) -> tuple[ModelConfig, ...]:
    """Read the models to serve from a message, with the checks of TensorFlow Serving's server_core.cc.

    Args:
        message: with a `model_config_list`.
        is_served: whether a model of a name is served now; its platform cannot be changed.

    Returns:
        A config per model, in the message's order.

    Raises:
        ServingError: INVALID_ARGUMENT, with TensorFlow Serving's message.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    for config in message.model_config_list.config:
        if is_served(config.name) and config.model_platform not in ("", _PLATFORM):
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {config.name} platform was {_PLATFORM} and new "
                f"platform requested is {config.model_platform}"
            )
    configs = tuple(_model(config) for config in message.model_config_list.config)
    seen: set[str] = set()
    for config in configs:
        if config.name in seen:
            raise invalid_argument(f"Illegal to list model {config.name} multiple times in config list")
        seen.add(config.name)
    return configs


def _model(config: model_server_config_pb2.ModelConfig) -> ModelConfig:
    _check_platform(config)
    path = Path(config.base_path)
    if not path.is_absolute():
        raise invalid_argument(
            f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
        )
    logging = _logging(config) if config.HasField("logging_config") else None
    return ModelConfig(config.name, path, _policy(config.model_version_policy), dict(config.version_labels), logging)


def _logging(config: model_server_config_pb2.ModelConfig) -> RequestLogging:
    collector = config.logging_config.log_collector_config
    if collector.type not in LOG_TYPES:
        raise ServingError(Code.NOT_FOUND, f"Cannot find LogCollector::Factory for type: {collector.type}")
    rate = config.logging_config.sampling_config.sampling_rate
    if not 0 <= rate <= 1:
        raise invalid_argument(f"The sampling_rate of model {config.name} has to be from 0 to 1. Received: {rate:g}")
    if not collector.filename_prefix:
        raise invalid_argument(f"The log_collector_config of model {config.name} has no filename_prefix.")
    try:
        return RequestLogging(locate(collector.filename_prefix), rate)
    except ValueError as error:
        raise invalid_argument(
            f"The filename_prefix of model {config.name} is not a place for files: {error}"
        ) from None


def _check_platform(config: model_server_config_pb2.ModelConfig) -> None:
    if not config.name:
        raise invalid_argument("A model of the config list has no name.")
    if config.model_platform and config.model_type:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {config.name}"
        )
    if not config.model_platform and config.model_type != _DEPRECATED_TENSORFLOW:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {config.name}"
        )
    if config.model_platform not in ("", _PLATFORM):
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Model {config.name} requests unsupported platform {config.model_platform}"
        )


def _policy(
    policy: file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy,
) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return AllVersions()
    if choice == "specific":
        return SpecificVersions(frozenset(policy.specific.versions))
    return LatestVersions(max(policy.latest.num_versions, 1))

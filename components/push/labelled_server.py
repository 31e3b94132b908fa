"""Labels on a server: its ModelServerConfig, sent over gRPC and, if it has a file of models, written there."""

from collections.abc import Collection, Mapping
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from kubetfx.config.serving_section import EndpointConfig
from kubetfx.errors import PushError
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.predict_client import ClientOptions
from kubetfx.storage import Location, write_text


class LabelledServer:
    """The server that watches a push directory."""

    def __init__(self, endpoint: EndpointConfig, model_name: str, directory: Location, options: ClientOptions) -> None:
        """Set up; the server is not contacted yet.

        Args:
            endpoint: The address of the server.
            model_name: The name of the model on the server.
            directory: The directory that the server watches.
            options: The options of requests.
        """
        self._endpoint = endpoint
        self._model_name = model_name
        self._base_path = endpoint.base_path or str(directory)
        self._options = options

    def serve(self, versions: Collection[int], labels: Mapping[str, int]) -> None:
        """Make the server serve exactly these versions of the model, with these labels.

        A label can only be given to a loaded version.

        Args:
            versions: The versions; if empty, the newest one.
            labels: The versions by label.

        Raises:
            RequestError: the server cannot be reached, or refuses; its file of models is unchanged.
            PushError: its file of models cannot be read or written, or lacks the model.
        """
        path = Path(self._endpoint.models_config) if self._endpoint.models_config else None
        before = _read(path) if path else ""
        config = self._changed(before, path, versions, labels)
        if path:
            _write(path, text_format.MessageToString(config))
        if self._endpoint.grpc:
            try:
                with GrpcClient(self._endpoint.grpc, self._options) as client:
                    client.reload_config(config)
            except BaseException:
                if path:
                    _write(path, before)
                raise

    def _changed(
        self, text: str, path: Path | None, versions: Collection[int], labels: Mapping[str, int]
    ) -> model_server_config_pb2.ModelServerConfig:
        config = model_server_config_pb2.ModelServerConfig()
        if path is None:
            model = config.model_config_list.config.add(
                name=self._model_name, base_path=self._base_path, model_platform="tensorflow"
            )
        else:
            try:
                text_format.Parse(text, config)
            except text_format.ParseError as error:
                raise PushError(
                    f"serving.endpoint.models_config is not a ModelServerConfig in protobuf's text format: {error}. "
                    f"Received: {path}. Fix the file."
                ) from None
            models = {model.name: model for model in config.model_config_list.config}
            if self._model_name not in models:
                raise PushError(
                    f"serving.endpoint.models_config has no model {self._model_name!r}. Received: {path}, which has "
                    f"{', '.join(sorted(models)) or 'none'}. Add the model, with its base_path."
                )
            model = models[self._model_name]
        model.ClearField("version_labels")
        model.version_labels.update(labels)
        model.ClearField("model_version_policy")
        if versions:
            model.model_version_policy.specific.versions.extend(sorted(versions))
        return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PushError(
            f"serving.endpoint.models_config cannot be read: {error}. Received: {path}. Name the file that the server "
            "was started with."
        ) from None


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise PushError(
            f"serving.endpoint.models_config cannot be written: {error}. Received: {path}. Grant write permission for "
            "its folder; the file is replaced as a whole."
        ) from error

"""`kubetfx.Client`: a served model, with the rows and the predictions of a loaded one."""

from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from kubetfx.errors import UsageError
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.memory import as_given

if TYPE_CHECKING:
    from kubetfx.serving.predict_client import Target


class Client:
    """Asks a server: kubetfx's embedded one, or TensorFlow Serving."""

    def __init__(
        self,
        model: str | None = None,
        *,
        rest: str | None = None,
        grpc: str | None = None,
        version: int | None = None,
        label: str | None = None,
        batch_size: int = 256,
        timeout_seconds: float = 30.0,
    ) -> None:
        """Open a connection; nothing is asked yet.

        Args:
            model: name that the server has it under. Default, over REST: the only one that the server has.
            rest: `http://HOST:PORT`.
            grpc: `HOST:PORT`, instead of `rest`.
            version: Default: the one that the server chooses, usually the newest.
            label: a version's label, instead of `version`.
            batch_size: rows per request.
            timeout_seconds: for a request, and to go on asking a server that is unavailable.

        Raises:
            UsageError: not exactly one address was given, or it is not one; or both a version and a label.
        """
        if version is not None and label is not None:
            raise UsageError(
                f"A model has a `version` or a `label`. Received: {version} and {label!r}. Give one of them."
            )
        from kubetfx.serving.client import connect
        from kubetfx.serving.predict_client import ClientOptions

        options = ClientOptions(batch_size, timeout_seconds, retry_seconds=timeout_seconds)
        self._client = connect(rest, grpc, options)
        self._model, self._version, self._label = model, version, label

    def predict(self, rows: Any, *, csv: CsvOptions = UNKNOWN_CSV) -> Any:
        """Ask the server for predictions.

        Args:
            rows: a pandas frame, an Arrow table, a list of dicts, or the path of a file or of a folder of images.
            csv: how CSV files are written, as far as it is known.

        Returns:
            An Arrow table with a row per row: `label`, `score` and `probabilities` per class, or `value`. For a pandas
            frame, a pandas frame with the same index and a column `probabilities.CLASS` per class.

        Raises:
            DataError: the rows cannot be read or lack a column, or one cannot be predicted.
            RequestError: the server refused, or was unavailable for too long.
            UsageError: the server has several models, and none was named.

        Example:
            >>> import kubetfx
            >>> client = kubetfx.Client("penguins", rest="http://localhost:8501")  # doctest: +SKIP
            >>> client.predict("rows.csv").column("label")[0].as_py()  # doctest: +SKIP
            'Chinstrap'
        """
        from kubetfx.serving import remote_prediction

        answers = remote_prediction.predict(self._client, self._target(), rows, csv=csv)
        return as_given(pa.Table.from_pylist(answers), rows)

    def versions(self) -> dict[int, str]:
        """Ask for the state of each version of the model.

        Returns:
            TensorFlow Serving's name of the state by version: `AVAILABLE`, `LOADING`, ...

        Raises:
            RequestError: the server does not know the model, or was unavailable for too long.
            UsageError: the server has several models, and none was named.
        """
        return {status.version: status.state.name for status in self._client.status(self._target().model_name)}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        """Return the client itself; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def _target(self) -> "Target":
        from kubetfx.serving.predict_client import Target

        return Target(self._model or self._only_model(), version=self._version, label=self._label)

    def _only_model(self) -> str:
        names = self._client.model_names()
        if len(names) != 1:
            known = f" The server has: {', '.join(names)}." if names else ""
            raise UsageError(f"A model is asked for by its name. Received: none.{known} Give `model`.")
        return names[0]

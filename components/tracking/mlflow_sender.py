"""Sends runs to MLflow: a program of its own, which needs mlflow or mlflow-skinny and nothing of kubetfx.

    python mlflow_sender.py FOLDER        the server is in the environment: KUBETFX_MLFLOW_URL

Each folder in FOLDER is a run, whole, as tracked_run.py wrote it; it is removed once the server has all of it. What was
sent of a run is noted beside it, so that a sender that was killed goes on, and sends nothing twice. One sender at a
time works on a FOLDER. The last line on the standard output is a JSON document of what happened.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

URL = "KUBETFX_MLFLOW_URL"
ENTRY, FILES, MODEL, PROGRESS = "entry.json", "files", "model", "progress.json"
PROBE_SECONDS = 5.0
_BATCH = 500
_PARAMS = 100
RUN_TAG = "kubetfx.run_id"


class NotReachedError(Exception):
    """The server cannot be reached or has an internal error: waiting runs are sent later."""


def main() -> int:
    """Send waiting runs, the oldest first.

    Returns:
        0 if everything was sent, or another sender is running; 1 otherwise.
    """
    folder = Path(sys.argv[1])
    found: dict[str, Any] = {"sent": [], "refused": [], "error": None}
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found["error"] = "another process is sending"
            print(json.dumps(found))
            return 0
        try:
            _send_all(folder, found)
        except NotReachedError as error:
            found["error"] = str(error)
    print(json.dumps(found))
    return 1 if found["error"] or found["refused"] else 0


def waiting(folder: Path) -> list[Path]:
    """Return the runs that were not sent yet, the oldest first.

    Args:
        folder: where they wait.
    """
    return sorted(path.parent for path in folder.glob(f"[!.]*/{ENTRY}"))


def _send_all(folder: Path, found: dict[str, Any]) -> None:
    url = _take_credentials_out(os.environ[URL])
    version = _probe(url)
    mlflow = _import(url)
    refused: set[Path] = set()
    while entries := [path for path in waiting(folder) if path not in refused]:
        for path in entries:
            try:
                address = _Sending(mlflow, url, version, path).send()
            except NotReachedError:
                raise
            except Exception as error:
                if _is_fault_of_server(error):
                    raise NotReachedError(_in_words(error)) from error
                refused.add(path)  # the others must not wait for it
                found["refused"].append({"run_id": path.name, "reason": _in_words(error)})
                continue
            found["sent"].append({"run_id": path.name, "url": address})
            _remove(path)


def _take_credentials_out(url: str) -> str:
    """Move credentials from the URL to MLflow's environment variables; in a URL they would appear in its errors."""
    parts = urlsplit(url)
    if parts.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _probe(url: str) -> str:
    """Ask for the version, which costs nothing: importing MLflow takes seconds."""
    try:
        with urllib.request.urlopen(f"{url}/version", timeout=PROBE_SECONDS) as answer:
            return str(answer.read(100).decode(errors="replace")).strip()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise NotReachedError(f"it answered {error.code} {error.reason}") from None
        return ""  # it requires authentication first, or is older than this page
    except (OSError, ValueError) as error:
        raise NotReachedError(f"it did not answer: {getattr(error, 'reason', error)}") from None


def _import(url: str) -> Any:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import mlflow
    except ImportError as error:
        raise NotReachedError(
            f"sending needs the package mlflow-skinny, the extra `mlflow` of kubetfx ({error}). Received: "
            f"{sys.executable}. Install it there, or name the Python of another environment: KUBETFX_MLFLOW_PYTHON"
        ) from None
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return mlflow


class _Sending:
    """The sending of one run."""

    def __init__(self, mlflow: Any, url: str, version: str, path: Path) -> None:
        self._mlflow = mlflow
        self._url = url
        self._has_logged_models = version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) >= 3
        self._path = path
        self._entry = json.loads((path / ENTRY).read_text(encoding="utf-8"))
        file = path / PROGRESS
        self._progress: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self._client = mlflow.MlflowClient()

    def send(self) -> str:
        """Send what is missing, and return the address of the run's page."""
        experiment = self._experiment()
        run_id = self._run(experiment)
        steps = {
            "params": self._send_params,
            "metrics": self._send_metrics,
            "files": self._send_files,
            "model": self._send_model,
            "registered": self._register,
        }
        with contextlib.redirect_stdout(sys.stderr):
            for name, step in steps.items():
                if name not in self._progress:
                    self._note(**{name: step(run_id)})
        self._client.set_terminated(run_id, self._entry["status"], self._entry["end_time"])
        return f"{self._url}/#/experiments/{experiment}/runs/{run_id}"

    def _note(self, **progress: Any) -> None:
        self._progress |= progress
        aside = self._path / f".{PROGRESS}"
        aside.write_text(json.dumps(self._progress), encoding="utf-8")
        aside.replace(self._path / PROGRESS)

    def _experiment(self) -> str:
        name = self._entry["experiment"]
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name))
        if found.lifecycle_stage == "deleted":
            raise ValueError(f"the experiment {name!r} was deleted. Restore it, or set another tracking.experiment")
        return str(found.experiment_id)

    def _run(self, experiment: str) -> str:
        """Return the run on the server, which a sender that was killed may have made."""
        if "mlflow_run_id" not in self._progress:
            of_us = f"tags.`{RUN_TAG}` = '{self._entry['run_id']}'"
            found = self._client.search_runs([experiment], filter_string=of_us, max_results=1)
            run = found[0] if found else None
            if run is not None:  # of a sender that was killed, or of the same run before it was begun again
                for key, value in self._entry["tags"].items():
                    self._client.set_tag(run.info.run_id, key, value)
            else:
                run = self._client.create_run(
                    experiment,
                    start_time=self._entry["start_time"],
                    tags=self._entry["tags"],
                    run_name=self._entry["run_name"],
                )
            self._note(mlflow_run_id=run.info.run_id)
        return str(self._progress["mlflow_run_id"])

    def _send_params(self, run_id: str) -> bool:
        params = [self._mlflow.entities.Param(key, value) for key, value in self._entry["params"].items()]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS])
        return True

    def _send_metrics(self, run_id: str) -> bool:
        metrics = [self._mlflow.entities.Metric(**metric) for metric in self._entry["metrics"]]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        return True

    def _send_files(self, run_id: str) -> bool:
        self._client.log_artifacts(run_id, str(self._path / FILES))
        return True

    def _send_model(self, run_id: str) -> str | None:
        """Send the model as MLflow 3 has it, or as an artifact of the run where the server is older."""
        if not (self._path / MODEL).is_dir():
            return None
        arguments = self._pyfunc()
        if not self._has_logged_models:
            with tempfile.TemporaryDirectory() as folder:
                self._mlflow.pyfunc.save_model(path=f"{folder}/{MODEL}", **arguments)
                self._client.log_artifacts(run_id, f"{folder}/{MODEL}", MODEL)
            return f"runs:/{run_id}/{MODEL}"
        with self._mlflow.start_run(run_id=run_id):
            return str(self._mlflow.pyfunc.log_model(name=MODEL, **arguments).model_uri)

    def _pyfunc(self) -> dict[str, Any]:
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema
        from mlflow.types.schema import AnyType

        def schema(columns: list[dict[str, Any]]) -> Any:
            types = [AnyType() if one["type"] == "any" else one["type"] for one in columns]
            named = zip(types, columns, strict=True)
            return Schema([ColSpec(kind, one["name"], required=one["required"]) for kind, one in named])

        model = self._entry["model"]
        return {
            "loader_module": "kubetfx_mlflow_loader",
            "data_path": str(self._path / MODEL),
            "code_paths": [str(Path(__file__).with_name("kubetfx_mlflow_loader.py"))],
            "signature": ModelSignature(schema(model["inputs"]), schema(model["outputs"])),
            "pip_requirements": model["requirements"],
        }

    def _register(self, run_id: str) -> str | None:
        name, uri = self._entry["register"], self._progress.get("model")
        if not name or not uri:
            return None
        tags = {key: value for key, value in self._entry["tags"].items() if key.startswith("kubetfx.")}
        before = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        version = before[0] if before else self._mlflow.register_model(uri, name, tags=tags)
        return str(version.version)


def _is_fault_of_server(error: Exception) -> bool:
    """Return whether the error may be temporary: no answer, or 5xx."""
    code = getattr(error, "get_http_status_code", lambda: None)()
    if type(error).__name__ == "RestException" or hasattr(error, "error_code"):
        return code is None or code >= 500 or code == 429
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)  # requests' errors are such


def _in_words(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:500]}"


def _remove(path: Path) -> None:
    """Rename a run before removing it, so that half of a run is never sent again."""
    aside = path.with_name(f".{path.name}.sent")
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

"""Logs of tasks on Kubeflow Pipelines, which the API server reads from the pod, or from where Argo archived it."""

import json
from collections.abc import Mapping
from urllib.parse import quote

from kubetfx.errors import KubeflowError
from kubetfx.kubeflow.kfp_connection import OpenConnection

_TAIL_LINES = 12
_ERROR_KEYS = {"error_message", "error_details"}


def read_log(kfp: OpenConnection, run_id: str, pod: str) -> str:
    """Return the log of the container `main` of a pod.

    Args:
        kfp: an open connection, to the API server (RunLogServer in backend/src/apiserver/server/run_log_server.go) or
            to the UI in front of it (frontend/server/handlers/pod-logs.ts).
        run_id: The id of the run.
        pod: The name of the task's pod.

    Raises:
        KubeflowError: neither has it.
    """
    query = {"podname": pod, "runid": run_id}
    if kfp.namespace:
        query["podnamespace"] = kfp.namespace
    places: list[tuple[str, dict[str, str]]] = [
        (f"/apis/v1alpha1/runs/{quote(run_id)}/nodes/{quote(pod)}/log", {}),
        ("/k8s/pod/logs", query),
    ]
    reason = ""
    with kfp.explained("read a log"):
        for path, parameters in places:
            answer = kfp.get(path, parameters)
            text: str = answer.data.decode(errors="replace")
            if answer.status == 200 and not _is_error(text) and not _is_page(text, answer.headers):
                return text
            reason = reason or f"{answer.status}: {text[:300]}"
    raise KubeflowError(
        f"Kubeflow Pipelines has no log of the pod any more. Received: {pod}, {reason}. Logs outlive their pods where "
        "Argo archives them (archiveLogs in its configuration). The task's output executor-logs, in the UI, has the "
        "text of what was uploaded."
    )


def _is_error(text: str) -> bool:
    """Return whether it is the API server's own error alone, which follows a status of 200, and not a log with one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "error_message" in document and set(document) <= _ERROR_KEYS


def _is_page(text: str, headers: Mapping[str, str]) -> bool:
    """Return whether it is a page of the UI, and not a log that begins or ends with one."""
    page = text.strip().lower()
    is_whole = page.startswith(("<!doctype html", "<html")) and page.endswith("</html>")
    return is_whole and "html" in headers.get("Content-Type", "")


def tail_of(kfp: OpenConnection, run_id: str, pod: str) -> list[str]:
    """Return the last lines of a log, or none if it cannot be read.

    Args:
        kfp: an open connection.
        run_id: The id of the run.
        pod: The name of the task's pod.
    """
    try:
        text = read_log(kfp, run_id, pod)
    except KubeflowError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-_TAIL_LINES:]

"""Logs of tasks on Kubeflow Pipelines, which the API server reads from the pod, or from where Argo archived it."""

from urllib.parse import quote

from kubetfx.errors import KubeflowError
from kubetfx.kubeflow.kfp_connection import OpenConnection

_TAIL_LINES = 12


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
            text = answer.data.decode(errors="replace")
            is_error = answer.status != 200 or '{"error_message"' in text  # which follows a status of 200
            if not is_error and not text.lstrip().lower().startswith(("<!doctype", "<html")):
                return text
            reason = reason or f"{answer.status}: {text[:300]}"
    raise KubeflowError(
        f"Kubeflow Pipelines has no log of the pod any more. Received: {pod}, {reason}. Logs outlive their pods where "
        "Argo archives them (archiveLogs in its configuration). The task's output executor-logs, in the UI, has the "
        "text of what was uploaded."
    )


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

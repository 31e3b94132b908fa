"""What to do when Kubeflow Pipelines refuses or does not answer, in words.

Names in backquotes are fields of `kubetfx.kubeflow.kfp_connection.Connection`.
"""

import json

import kfp_server_api
import urllib3

_TRANSIENT = frozenset({0, 408, 429, 500, 502, 503, 504})
"""HTTP statuses of a server that may answer later; 0 is the API client's for no connection."""

_AUTHENTICATE = (
    "Give a token (`token`, or KUBETFX_KFP_TOKEN in the environment) or the cookies of a session (`cookies`, or "
    "KUBETFX_KFP_COOKIES); in a pod, mount a service account's token of the audience pipelines.kubeflow.org."
)


def login_page(host: str) -> str:
    """Return the message for a web page that came instead of the API's answer.

    Args:
        host: URL of the server.
    """
    return (
        f"Kubeflow Pipelines wants a login. Received: a web page instead of an answer, from {host}. "
        f"{_AUTHENTICATE} If {host} is the dashboard, its API is usually at {host}/pipeline."
    )


def strange_answer(error: Exception, what: str, host: str) -> str:
    """Return the message for an answer that the API does not have.

    Args:
        error: with the text that came, or that says why it is not text.
        what: was asked for, as a verb: `upload the pipeline`.
        host: URL of the server.
    """
    received = "bytes that are not text" if isinstance(error, UnicodeDecodeError) else repr(str(error)[:200])
    return (
        f"What answers at {host} is not Kubeflow Pipelines: it was asked to {what}. Received: {received}. "
        "Is the URL right? Behind Kubeflow's dashboard it ends in /pipeline. From a laptop: "
        "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, and `host` is http://localhost:8080."
    )


def wrong_answer(fault: str, what: str, host: str) -> str:
    """Return the message for an answer in which a value is not of the type that the API gives it.

    Args:
        fault: which value, where.
        what: was asked for, as a verb: `upload the pipeline`.
        host: URL of the server.
    """
    return (
        f"Kubeflow Pipelines at {host} answered something else than its API has: it was asked to {what}. Received: "
        f"{fault}. Is there a proxy in between that changes answers, or another service of the same paths? kubetfx "
        "speaks with Kubeflow Pipelines 2.14 to 2.17."
    )


def unreachable(error: urllib3.exceptions.HTTPError, host: str) -> str:
    """Return the message for a server that did not answer.

    Args:
        error: that the last try ended with.
        host: URL of the server, empty if none was given.
    """
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, urllib3.exceptions.SSLError):
        return _insecure(str(reason), host)
    return (
        f"Kubeflow Pipelines cannot be reached. Received: {host or 'no `host`'}: {_without_address(reason)}. "
        "Is the URL right, and is there a way to it from here? From a laptop: "
        "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, and `host` is http://localhost:8080."
    )


def refusal(error: kfp_server_api.ApiException, what: str, *, host: str, namespace: str | None) -> str:
    """Return the message for a server that refused.

    Args:
        error: that the API client raised.
        what: was asked for, as a verb: `upload the pipeline`.
        host: URL of the server.
        namespace: that was given; None if none was.
    """
    reason = _reason(error)
    if error.status == 0:  # the API client's form of urllib3's SSLError
        return _insecure(reason, host)
    received = f"Received: {error.status}{f', {reason}' if reason else ''}."
    where = f" in {namespace}" if namespace else ""
    if error.status == 401:
        return f"Kubeflow Pipelines at {host} does not know who asks. {received} {_AUTHENTICATE}"
    if error.status == 403 or "permission" in reason.lower() or "authoriz" in reason.lower():
        return (
            f"Kubeflow Pipelines lets nobody of these credentials {what}{where}. {received} Is the namespace right "
            "(`namespace`)? Its owner grants the role kubeflow-edit."
        )
    if error.status == 404:
        return (
            f"There is no API of Kubeflow Pipelines 2 at {host}, or not what it was asked for. {received} "
            "Behind Kubeflow's dashboard the URL ends in /pipeline."
        )
    if "namespace" in reason.lower():
        return f"Kubeflow Pipelines would not {what}{where}. {received} Name that of your profile: `namespace`."
    if error.status in (400, 409, 412, 422):
        return (
            f"Kubeflow Pipelines would not {what}{where}. {received} If it is the package: the linter of kubetfx says "
            "where. If it says no more than this, its API server's log does: kubectl logs -n kubeflow "
            "deploy/ml-pipeline."
        )
    return (
        f"Kubeflow Pipelines failed to {what}. {received} Its API server's log says why: "
        "kubectl logs -n kubeflow deploy/ml-pipeline."
    )


def is_transient(error: BaseException) -> bool:
    """Return whether asking again may help.

    Args:
        error: that an attempt ended with.
    """
    if isinstance(error, kfp_server_api.ApiException):
        return error.status in _TRANSIENT
    return isinstance(error, urllib3.exceptions.HTTPError)


def in_short(error: BaseException | None) -> str:
    """Return the HTTP status or the reason alone.

    Args:
        error: that an attempt ended with.
    """
    if isinstance(error, kfp_server_api.ApiException):
        return str(error.status)
    return _without_address(getattr(error, "reason", None) or error)


def _insecure(reason: str, host: str) -> str:
    return (
        f"There is no secure connection to Kubeflow Pipelines. Received: {host}: {reason}. If the server speaks plain "
        "HTTP, its URL begins with http://. If an authority of your own signed its certificate, name the authority's: "
        "`ca_certificate`."
    )


def _reason(error: kfp_server_api.ApiException) -> str:
    """Return the server's own words, which it wraps in one of several forms."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return " ".join(body.split())[:500] or str(error.reason or "")
    words = document.get("message") or document.get("error_message") or document.get("error") or body
    return " ".join(str(words).split())[:2000].rstrip(".")


def _without_address(reason: object) -> str:
    """Return the text without the address of the connection object that urllib3 puts in front."""
    arguments = list(getattr(reason, "args", ()))
    if len(arguments) > 1 and isinstance(arguments[0], str):  # whose text would be a tuple of Python
        first, second = arguments[0], str(arguments[1])
        return first if second in first else f"{first.rstrip('.')}: {second}"
    return str(reason).rpartition("object at 0x")[2].partition(": ")[2] or str(reason)

"""Errors of object stores in words: what their clients say becomes what is wrong, and what to do."""

import errno
import os
import re

from kubetfx.errors import StorageError

_S3_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during \w+ operation: (.*)", re.DOTALL)
_GCS_ERROR = re.compile(r"google::cloud::Status\((\w+): (.*?)(?: error_info=.*)?\)?$", re.DOTALL)
_NOT_FOUND = re.compile(r"No such (file or )?directory|Path does not exist|NO_SUCH_KEY|No such object")
_NO_BUCKET = re.compile(
    r"Status\(NOT_FOUND: .*bucket does not exist|Bucket '\S+' not found|InvalidBucketName", re.DOTALL
)
_REFUSED_CREDENTIALS = frozenset(
    {
        "EXPIRED_TOKEN",
        "INCOMPLETE_SIGNATURE",
        "INVALID_ACCESS_KEY_ID",
        "INVALID_CLIENT_TOKEN_ID",
        "INVALID_SIGNATURE",
        "MISSING_AUTHENTICATION_TOKEN",
        "REQUEST_EXPIRED",
        "SIGNATURE_DOES_NOT_MATCH",
        "UNRECOGNIZED_CLIENT",
    }
)
_S3_CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for tasks on Kubeflow by "
    "kubeflow.every_component.secrets, or give their service account a role."
)
_GCS_CREDENTIALS = (
    "Set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or run `gcloud auth application-default login`; for "
    "tasks on Kubeflow mount the file by kubeflow.every_component.secrets, or give their service account an identity."
)


def explain(text: str, *, url: str, bucket: str, store: str) -> StorageError | FileNotFoundError | None:
    """Say what went wrong at a store.

    Args:
        text: what Arrow's file system says, with the words of Amazon's or Google's client in it.
        url: The URL of the object or folder.
        bucket: its bucket.
        store: name or address of the store.

    Returns:
        The error to raise; None if the text is not about a store.
    """
    if _NO_BUCKET.search(text):
        problem, remedy = _no_bucket(bucket, store)
    elif _NOT_FOUND.search(text):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    elif match := _S3_ERROR.search(text):
        problem, remedy = _explain_s3(match[1], match[2], " ".join(match[3].split()).rstrip("."), bucket, store)
    elif match := _GCS_ERROR.search(text):
        problem, remedy = _explain_gcs(match[1], " ".join(match[2].split()), bucket, store)
    else:
        return None
    return StorageError(f"{problem}. Received: {url}. {remedy}")


def _no_bucket(bucket: str, store: str) -> tuple[str, str]:
    return f"There is no bucket {bucket!r} at {store}", "Create it, or correct its name."


def _explain_s3(code: str, status: str | None, text: str, bucket: str, store: str) -> tuple[str, str]:
    if code == "NO_SUCH_BUCKET":
        return _no_bucket(bucket, store)
    if code in _REFUSED_CREDENTIALS:
        return f"{store} refuses the credentials ({text})", _S3_CREDENTIALS
    if code == "ACCESS_DENIED":
        return (
            f"{store} denies access to the bucket {bucket!r}",
            f"Grant the credentials leave to list, read and write there, or use others. {_S3_CREDENTIALS}",
        )
    if code in ("NETWORK_CONNECTION", "REQUEST_TIMEOUT"):
        return (
            f"{store} cannot be reached ({text})",
            "Look at the network and at AWS_ENDPOINT_URL, which names a store that is not Amazon's.",
        )
    if status == "301":
        return f"The bucket {bucket!r} is in another region", "Set AWS_REGION to it, or leave it unset."
    return f"{store} answers {code}{f' ({status})' if status else ''}: {text}", "Try again."


def _explain_gcs(code: str, text: str, bucket: str, store: str) -> tuple[str, str]:
    reason = (text.partition("with a last message of ")[2] or text).rstrip(".")
    if "access token" in text or code == "UNAUTHENTICATED":
        cause = reason.rpartition("The underlying error message was: ")[2]
        return f"{store} finds no credentials that it takes ({cause})", _GCS_CREDENTIALS
    if code == "PERMISSION_DENIED":
        return f"{store} denies access to the bucket {bucket!r}", _GCS_CREDENTIALS
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return f"{store} cannot be reached ({reason})", "Look at the network."
    return f"{store} answers {code}: {reason}", "Try again."

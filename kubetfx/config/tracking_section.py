"""The section `tracking`: a server of MLflow that runs are sent to."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from kubetfx.config.section import Section


class TrackingConfig(Section):
    """Runs, with parameters, metrics, report and model, are sent to MLflow. A server that is down delays no run: what
    could not be sent waits in the workspace, and the next run sends it."""

    mlflow: Annotated[str, Field(min_length=1)]
    """URL of the server, for example http://mlflow.example:5000. A password in it is a reference:
    https://me:${MLFLOW_PASSWORD}@mlflow.example."""
    token: str | None = None
    """Token of the server, as a reference: ${MLFLOW_TOKEN}. Default: MLflow's own environment variables."""
    experiment: Annotated[str, Field(min_length=1)] | None = None
    """Experiment that the runs are in, which is made if there is none. Default: the name of the pipeline."""
    is_registered: bool = Field(False, alias="register")
    """Whether a model that reached every threshold becomes a version of the registered model, by the name that clients
    of the served model ask for."""
    wait_seconds: float = Field(10, ge=0)
    """Time that a run waits at its end until it is sent; after that it is sent in the background."""

    @field_validator("mlflow")
    @classmethod
    def _is_a_url_without_a_password(cls, url: str) -> str:
        if url.startswith("${"):
            return url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"a URL of a server is needed, http://HOST:PORT. Received: {_without_password(url)}")
        password = parts.netloc.rpartition("@")[0].partition(":")[2]
        if password and not password.startswith("${"):
            raise ValueError(
                f"the password would be stored in clear. Received: {_without_password(url)}. Refer to an environment "
                "variable: https://me:${MLFLOW_PASSWORD}@HOST"
            )
        return url

    @field_validator("token")
    @classmethod
    def _token_is_a_reference(cls, token: str | None) -> str | None:
        if token is not None and not token.startswith("${"):
            raise ValueError(
                "the token would be stored in clear. Received: a token. Refer to an environment variable: "
                "${MLFLOW_TOKEN}"
            )
        return token


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//...@", url)

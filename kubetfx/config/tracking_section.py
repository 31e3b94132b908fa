"""The section `tracking`: an MLflow server to which runs are sent."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from kubetfx.config.section import Section


class TrackingConfig(Section):
    """Runs are sent to MLflow with parameters, metrics, report and model.

    A server that is down does not delay a run: what could not be sent waits in the workspace until the next run.
    """

    mlflow: Annotated[str, Field(min_length=1)]
    """URL of the server, for example http://mlflow.example:5000. A password in it must be a reference:
    https://me:${MLFLOW_PASSWORD}@mlflow.example."""
    token: str | None = None
    """Token of the server, as a reference: ${MLFLOW_TOKEN}. Default: MLflow's own environment variables."""
    experiment: Annotated[str, Field(min_length=1)] | None = None
    """Experiment of the runs, which is created if it does not exist. Default: the name of the pipeline."""
    is_registered: bool = Field(False, alias="register")
    """Whether a model that meets every threshold becomes a version of the registered model that has the served model's
    name.
    """
    wait_seconds: float = Field(10, ge=0)
    """Time that a run waits at its end to be sent; after that it is sent in the background."""

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
                f"the password would be stored in clear text. Received: {_without_password(url)}. Refer to an "
                f"environment "
                "variable: https://me:${MLFLOW_PASSWORD}@HOST"
            )
        return url

    @field_validator("token")
    @classmethod
    def _token_is_a_reference(cls, token: str | None) -> str | None:
        if token is not None and not token.startswith("${"):
            raise ValueError(
                "the token would be stored in clear text. Received: a token. Refer to an environment variable: "
                "${MLFLOW_TOKEN}"
            )
        return token


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//...@", url)

"""The base of the facts."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A part of the facts. An older kubetfx ignores what a newer one added."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, ser_json_inf_nan="strings")

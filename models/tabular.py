"""The name of models/network.py before networks were made of column types; modules of users' import from here."""

from kubetfx.models.network import build_model, preprocessing_fn

__all__ = ["build_model", "preprocessing_fn"]

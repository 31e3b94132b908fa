"""Chooses how a version is verified: by its number, or with labels."""

from collections.abc import Callable

from kubetfx.components.push import push_directory
from kubetfx.components.push.promotion import CanaryVerification
from kubetfx.components.push.push_verification import Verification
from kubetfx.config.serving_section import CanaryConfig, EndpointConfig
from kubetfx.storage import Location


def verification(
    endpoint: EndpointConfig,
    model_name: str,
    directory: Location,
    *,
    canary: CanaryConfig | None,
    by: str,
    take_away: Callable[[Location, int], None] = push_directory.remove,
) -> Verification:
    """Make the verification that a config asks for.

    Args:
        endpoint: The address of the server.
        model_name: The name of the model on the server.
        directory: The directory that the server watches.
        canary: The label that a version gets; None without labels.
        by: Who pushes or approves.
        take_away: Removes a failed version from the directory.

    Returns:
        The verification; the server is not contacted yet.
    """
    if canary is None:
        return Verification(endpoint, model_name, directory, take_away=take_away)
    return CanaryVerification(endpoint, model_name, directory, canary=canary, by=by, take_away=take_away)

"""How a version is verified: by its number, or with labels."""

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
        endpoint: where the server is.
        model_name: by which it serves the model.
        directory: that it watches.
        canary: the label that a version gets; None: there are no labels.
        by: who pushes or approves.
        take_away: takes a version that fails out of the directory.

    Returns:
        The verification; nothing is asked yet.
    """
    if canary is None:
        return Verification(endpoint, model_name, directory, take_away=take_away)
    return CanaryVerification(endpoint, model_name, directory, canary=canary, by=by, take_away=take_away)

"""How a version is verified: by its number, or with labels; and the golden rows that it was pushed with."""

from collections.abc import Callable

from kubetfx.artifacts import PUSHED_GOLDEN_ROWS
from kubetfx.components.evaluation import golden
from kubetfx.components.push import push_directory
from kubetfx.components.push.promotion import CanaryVerification
from kubetfx.components.push.push_verification import Verification
from kubetfx.config.serving_section import CanaryConfig, EndpointConfig
from kubetfx.errors import PushError
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


def pushed_golden_rows(directory: Location, version: int) -> golden.GoldenRows:
    """Return the golden rows that a version was pushed with.

    Args:
        directory: where versions are pushed.
        version: its number.

    Raises:
        PushError: it has none.
    """
    text = push_directory.read_added(directory, version, PUSHED_GOLDEN_ROWS)
    if text is None:
        raise PushError(f"the version has no golden rows to check it with. Received: {version}. Push the model again.")
    return golden.parse(text)

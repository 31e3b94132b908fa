"""Clients of either server, the embedded one or TensorFlow Serving itself: rows in, one answer per row out.

Rows are mappings from column to value, as the REST API's `instances` has them. They are sent in batches; a server that
is unavailable, or says that it has too much to do, is asked again for a bounded time.
"""

from kubetfx.errors import UsageError
from kubetfx.serving.predict_client import ClientOptions, PredictClient


def connect(rest: str | None, grpc: str | None, options: ClientOptions) -> PredictClient:
    """Make a client for one of two protocols. Nothing is asked yet.

    Args:
        rest: `http://HOST:PORT`.
        grpc: `HOST:PORT`, instead of `rest`.
        options: how it asks.

    Returns:
        The client, which is to be closed.

    Raises:
        UsageError: not exactly one address was given, or it is not one.
    """
    if bool(rest) == bool(grpc):
        raise UsageError(
            f"A server is asked over one protocol. Received: `rest` {rest}, `grpc` {grpc}. Give one of them."
        )
    if rest:
        from kubetfx.serving.rest_client import RestClient

        return RestClient(rest, options)
    from kubetfx.serving.grpc_client import GrpcClient  # TensorFlow's messages, which a client over REST does without

    return GrpcClient(grpc or "", options)

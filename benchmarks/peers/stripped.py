"""A peer of benchmarks/serving.py: Starlette and orjson around the same session call, with no protocol and no checks.

`scheduling` is where the call runs: `loop` blocks the event loop with it, `threads` hands it to Starlette's threads.

    python -m benchmarks.peers.stripped SAVED_MODEL PORT loop|threads
"""

import sys
from pathlib import Path

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kubetfx.serving.saved_model import SavedModel


def application(path: Path, scheduling: str) -> Starlette:
    """Return the application: POST takes rows as a list of objects, and returns a list of each output."""
    model = SavedModel(path)
    signature = model.signatures["serving_default"]
    feeds = [spec.tensor_name for spec in signature.inputs.values()]
    fetches = [spec.tensor_name for spec in signature.outputs.values()]
    dtypes = {name: object if spec.dtype == 7 else None for name, spec in signature.inputs.items()}
    floats = {name: np.float32 if spec.dtype == 1 else np.float64 for name, spec in signature.inputs.items()}

    def predict(body: bytes) -> bytes:
        rows = orjson.loads(body)["instances"]
        columns = [np.array([row[name] for row in rows], dtypes[name] or floats[name]) for name in dtypes]
        tensors = model.run(feeds, columns, fetches)
        values = [
            [text.decode() for text in tensor.ravel()] if tensor.dtype == object else tensor for tensor in tensors
        ]
        return orjson.dumps(dict(zip(signature.outputs, values, strict=True)), option=orjson.OPT_SERIALIZE_NUMPY)

    async def handle(request: Request) -> Response:
        body = await request.body()
        answer = await run_in_threadpool(predict, body) if scheduling == "threads" else predict(body)
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route("/v1/models/bench:predict", handle, methods=["POST"])])


def main() -> None:
    """Serve until killed."""
    path, port, scheduling = sys.argv[1:]
    uvicorn.run(application(Path(path), scheduling), port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

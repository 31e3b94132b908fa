"""A peer of benchmarks/serving.py: the web wrapper around `model.predict` that courses teach.

FastAPI runs a plain function as an endpoint in Starlette's threads; this is that, without FastAPI, whose own cost does
not show beside `predict`. The network is of the size of the one for penguins.

    python -m benchmarks.peers.keras_predict PORT
"""

import sys

import keras
import numpy as np
import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

NUM_FEATURES = 24


class Rows(BaseModel):
    """A request."""

    instances: list[dict[str, float | str]]


def application() -> Starlette:
    """Return the application: POST takes rows as a list of objects, and returns a list of probabilities."""
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((NUM_FEATURES,)), *layers])

    def predict(rows: Rows) -> list[list[float]]:
        features = np.zeros((len(rows.instances), NUM_FEATURES), np.float32)
        for index, row in enumerate(rows.instances):
            numbers = [value for value in row.values() if not isinstance(value, str)]
            features[index, : len(numbers)] = numbers
        probabilities: list[list[float]] = model.predict(features, verbose=0).tolist()
        return probabilities

    async def handle(request: Request) -> JSONResponse:
        rows = Rows.model_validate_json(await request.body())
        return JSONResponse(await run_in_threadpool(predict, rows))

    return Starlette(routes=[Route("/v1/models/bench:predict", handle, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(application(), port=int(sys.argv[1]), log_level="warning", access_log=False)

"""Predictions of a server for the rows that `Model.predict` takes, with the same errors for bad rows."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kubetfx.arrays import Array
from kubetfx.artifacts import IMAGE_PATH
from kubetfx.errors import RequestError
from kubetfx.serving import model_columns
from kubetfx.serving.model import first_refusal, refusal, to_prediction
from kubetfx.serving.model_columns import Feed, ModelColumns
from kubetfx.serving.row_source import open_rows
from kubetfx.serving.status import Code, in_words
from kubetfx.tables import json_bytes
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions

if TYPE_CHECKING:
    from kubetfx.serving.predict_client import PredictClient, Target


def predict(
    client: "PredictClient", target: "Target", rows: Any, *, csv: CsvOptions = UNKNOWN_CSV
) -> list[dict[str, Any]]:
    """Ask a server for predictions.

    Args:
        client: of the server.
        target: the model.
        rows: as `Model.predict` takes them.
        csv: how CSV files are written, as far as it is known.

    Returns:
        A dict per row, in their order, as `to_prediction` makes it; for images from files with their `path`.

    Raises:
        DataError: the rows cannot be read or lack a column, or one cannot be predicted.
        RequestError: the server refused, or was unavailable for too long.
    """
    types = client.input_types(target)
    dtypes = {name: np.dtype(one.dtype) for name, one in types.items()}
    lists = frozenset(name for name, one in types.items() if one.is_list)
    columns = ModelColumns(dtypes, dict.fromkeys(dtypes, False), lists)
    source = open_rows(rows, columns, csv=csv)
    predictions: list[dict[str, Any]] = []
    for block in source.blocks:
        feed = model_columns.to_feed(block, columns)
        pictures = columns.pictures(feed.table.column_names)
        for name in pictures:
            contents, unread = model_columns.read_images(feed.arrays[name], source.root)
            feed = Feed({**feed.arrays, name: contents}, feed.table, feed.index, feed.bad).with_bad(unread)
        if feed.bad:
            raise first_refusal(feed.bad, before=len(predictions))
        names = feed.table.column(IMAGE_PATH).to_pylist() if IMAGE_PATH in source.plan.copied else None
        predictions += _ask(client, target, feed, names, pictures=pictures, before=len(predictions))
    return predictions


def _ask(
    client: "PredictClient",
    target: "Target",
    feed: Feed,
    names: Sequence[str] | None,
    *,
    pictures: Collection[str],
    before: int,
) -> list[dict[str, Any]]:
    rows = _to_client_rows(feed.arrays, pictures)
    answers: list[dict[str, Any]] = []
    try:
        for answer in client.predict(target, rows):
            path = {IMAGE_PATH: names[len(answers)]} if names else {}
            answers.append({**path, **to_prediction(answer)})
    except RequestError as error:
        if names is None or error.code != Code.INVALID_ARGUMENT or not error.is_answer:
            raise
        for number in range(len(answers), len(rows)):  # one of the request that was refused
            try:
                list(client.predict(target, [rows[number]]))
            except RequestError as refused:
                if refused.code != Code.INVALID_ARGUMENT:
                    raise
                raise refusal(before + number, in_words(refused.reason), name=names[number]) from refused
        raise
    return answers


def _to_client_rows(columns: Mapping[str, Array], pictures: Collection[str]) -> list[dict[str, Any]]:
    """Return columns as rows for a client."""
    lists = {
        name: [_to_client_value(value, is_picture=name in pictures) for value in column.tolist()]
        for name, column in columns.items()
    }
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _to_client_value(value: Any, *, is_picture: bool) -> Any:
    if isinstance(value, list):
        return [one.decode() for one in value]
    if not isinstance(value, bytes):
        return value
    return json_bytes.to_json(value) if is_picture else value.decode()

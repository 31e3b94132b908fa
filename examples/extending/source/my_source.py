"""A data source of one's own: rows from anywhere, as Arrow batches. Here, what a weather station measured, by day."""

import numpy as np
import pyarrow as pa


def read(days):
    """What pipeline.yaml names as `data.source`; `data.source_options` are its arguments.

    Args:
        days: how many to ask the station for.

    Yields:
        A table per day, each with the same columns. A real station would be asked here, and nowhere else.
    """
    for day in range(days):
        generator = np.random.default_rng(day)
        humidity, pressure = generator.uniform(20, 100, 48), generator.normal(1013, 10, 48)
        rains = humidity - (pressure - 1013) + generator.normal(0, 3, 48) > 70
        yield pa.table({"humidity": humidity, "pressure": pressure, "weather": np.where(rains, "rain", "dry")})

"""The distances of drift and skew beside those that TFDV measures."""

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kubetfx.components.report import data_facts as data
from tests.components.report import sample


def documents(seed: int, shift: float) -> statistics_pb2.DatasetFeatureStatisticsList:
    generator = np.random.default_rng(seed)
    columns = {
        "number": generator.normal(shift, 1 + shift, 500),
        "skewed": generator.exponential(2 + shift, 500),
        "constant": np.full(500, 3.0),
        "text": generator.choice(["a", "b", "c"], 500, p=[0.5, 0.3 - shift / 4, 0.2 + shift / 4]).tolist(),
    }
    (dataset,) = sample.statistics({"train": columns}).values()
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset])


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_drift_is_what_tfdv_measures(shift: float) -> None:
    before, now = documents(1, 0.0), documents(2, shift)
    schema = tfdv.infer_schema(before)
    for feature in schema.feature:
        comparator = feature.drift_comparator
        is_text = feature.type == schema_pb2.BYTES
        (comparator.infinity_norm if is_text else comparator.jensen_shannon_divergence).threshold = 1e-9
    anomalies = tfdv.validate_statistics(now, schema, previous_statistics=before)
    theirs = {info.path.step[0]: info.drift_measurements[0].value for info in anomalies.drift_skew_info}
    ours = data.describe({"train": now.datasets[0]}, previous={"train": before.datasets[0]})

    assert len(theirs) == 4
    for column in ours.columns:
        assert column.drift is not None
        assert column.drift.value == pytest.approx(theirs[column.name], abs=1e-6), column.name

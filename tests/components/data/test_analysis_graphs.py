"""The graphs of an analysis."""

import pytest
import tensorflow as tf
import tensorflow_transform as tft

from kubetfx.components.data.analysis_graphs import AnalysisGraphs, Unsupported
from kubetfx.models.raw_inputs import usual_spec


def standardised(inputs):
    numbers = tf.concat(list(inputs.values()), axis=1)
    return {"numbers": numbers - tft.mean(numbers, reduce_instance_dims=False)}


def test_operations_of_a_phase_are_as_many_whatever_the_columns(tmp_path):
    def operations(num_columns: int) -> int:
        spec = usual_spec({f"column {index}": "float32" for index in range(num_columns)})
        return len(AnalysisGraphs(standardised, spec, tmp_path).trace()[0].get_operations())

    assert operations(100) == operations(3)


def test_analyzer_whose_name_the_inputs_of_the_last_graph_take_is_left_to_tf_transform(tmp_path):
    def named_as_an_input(inputs):
        with tf.name_scope("inputs_height"):
            return {"height": inputs["height"] - tft.mean(inputs["height"])}

    graphs = AnalysisGraphs(named_as_an_input, usual_spec({"height": "float32"}), tmp_path)
    graphs.trace()

    with pytest.raises(Unsupported, match="inputs_height"):
        graphs.write_last(tmp_path / "output", [])
    assert not (tmp_path / "output").exists()

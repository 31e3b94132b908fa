"""RuntimeParameters of TFX as parameters of a package."""

import pytest
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.decorators import FinalStatusStr

from kubetfx.errors import CompileError
from kubetfx.kubeflow.lint import lint
from tests.kubeflow import taxi_pipeline
from tests.kubeflow.conftest import specs
from tests.kubeflow.taxi_pipeline import Fail, Number, Tell, Write, small


@pytest.mark.parametrize(
    ("name", "expected"),
    [("model", "model"), ("lambda", "lambda_"), ("1st", "n_1st"), ("condition_1", "condition_1"), ("text", "text")],
)
def test_runtime_parameter_may_be_called_as_anything_else_is(compiled, tmp_path, name, expected):
    write = Write(text=RuntimeParameter(name, str, "x"), times=1)
    with Cond(write.outputs["model"].future()[0].uri == "/somewhere"):
        number = Number(value=1)
    (package,) = compiled(small("p", write, number))

    (parameter,) = package["root"]["inputDefinitions"]["parameters"]
    assert parameter == expected
    inputs = package["root"]["dag"]["tasks"]["write"]["inputs"]["parameters"]
    assert inputs[parameter]["componentInputParameter"] == parameter
    assert specs(package)["write"].nodes[0].properties["text"].overrides[0].parameter == parameter
    outputs = package["components"]["comp-write"]["outputDefinitions"]
    assert (len(outputs["artifacts"]), len(outputs["parameters"])) == (2, 1)
    assert lint(tmp_path / "package.yaml") == []


@pytest.mark.parametrize(
    ("components", "handler", "message"),
    [
        (
            lambda: [taxi_pipeline.CsvExampleGen(input_base=RuntimeParameter("driver-output", str, "/x"))],
            None,
            r"CsvExampleGen: the RuntimeParameter 'driver_output' has a name that its task needs",
        ),
        (
            lambda: [Number(value=1)],
            lambda: Tell(path=RuntimeParameter("status", str, "/x"), status=FinalStatusStr()),
            r"Tell: the RuntimeParameter 'status' has a name that its task needs",
        ),
        (
            lambda: [Fail(reason=RuntimeParameter("\u7406\u7531", str, "x"))],
            None,
            r"Fail: a RuntimeParameter's name needs an ASCII letter or digit\. Received: '\u7406\u7531'",
        ),
    ],
    ids=["of the driver", "final status", "no ASCII"],
)
def test_runtime_parameter_with_a_name_that_cannot_be_names_the_node(compiled, components, handler, message):
    with pytest.raises(CompileError, match=message):
        compiled(small("p", *components()), exit_handler=handler and handler())


def test_text_that_only_looks_like_a_runtime_parameter_is_left_alone(compiled):
    text = 'say "RuntimeParameter" and {no JSON'
    document = '{"say":"\\"RuntimeParameter\\"",  "n": 1}'
    (package,) = compiled(small("p", Fail(reason=text), Fail(reason=document).with_id("Second")))

    assert specs(package)["fail"].nodes[0].properties["reason"].value == text
    assert specs(package)["second"].nodes[0].properties["reason"].value == document


def test_runtime_parameter_with_two_defaults_is_refused(compiled):
    first = Fail(reason=RuntimeParameter("reason", str, "a")).with_id("First")
    second = Fail(reason=RuntimeParameter("reason", str, "b")).with_id("Second")
    with pytest.raises(CompileError, match=r"Second: the RuntimeParameter 'reason' has another type or default"):
        compiled(small("p", first, second))

"""Run parameters out of text."""

import pytest
import yaml
from kfp import compiler

from kubetfx.errors import UsageError
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.parameter_values import parse_parameters
from tests.kubeflow import sdk_packages


def test_parameters_without_a_default_are_asked_for(tmp_path):
    path = tmp_path / "needs-a-side.yaml"
    compiler.Compiler().compile(sdk_packages.needs_a_side, str(path))
    package = read_package(path)

    with pytest.raises(UsageError, match="Give them in `parameters`: side=VALUE"):
        parse_parameters([], package)
    assert parse_parameters(["side="], package) == {"side": ""}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", "3", "3"),
        ("NUMBER_INTEGER", "-3", -3),
        ("NUMBER_INTEGER", "3.5", None),
        ("NUMBER_INTEGER", "true", None),
        ("NUMBER_DOUBLE", "1e-3", 0.001),
        ("NUMBER_DOUBLE", "NaN", None),
        ("NUMBER_DOUBLE", "1e999", None),
        ("BOOLEAN", "True", True),
        ("BOOLEAN", "1", None),
        ("LIST", "[1]", [1]),
        ("LIST", "{}", None),
        ("STRUCT", '{"a": 1}', {"a": 1}),
    ],
)
def test_values_have_the_type_that_the_package_declares(tmp_path, kind, text, value):
    path = tmp_path / "package.yaml"
    inputs = {"parameters": {"x": {"parameterType": kind}}}
    path.write_text(yaml.safe_dump({"pipelineInfo": {"name": "a"}, "root": {"inputDefinitions": inputs}}))
    package = read_package(path)

    if value is None:
        with pytest.raises(UsageError, match="Parameter 'x' takes"):
            parse_parameters([f"x={text}"], package)
    else:
        assert parse_parameters([f"x={text}"], package) == {"x": value}

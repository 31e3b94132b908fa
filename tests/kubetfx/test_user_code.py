"""Modules of the user's: what they import, and by which names."""

import sys
from pathlib import Path

import pytest

import kubetfx
from kubetfx.errors import ConfigError
from kubetfx.user_code import check_imports, importable, load_object

PENGUINS = Path(__file__).parents[2] / "examples" / "penguins" / "data"


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("import models.features", "Import kubetfx.models.features."),
        ("from components import evaluator", "Import kubetfx.components."),
        ("from components.pusher import Pusher", "Import kubetfx.components.pusher."),
        ("from serving.saved_model import SavedModel", "Import kubetfx.serving.saved_model."),
        ("import kubeflow.compiler as compiler", "Import kubetfx.kubeflow.compiler."),
        ("from pipeline.errors import DataError", "Import kubetfx.errors."),
        ("from pipeline.config import load_config", "Import it from kubetfx."),
        ("import components.report.quality", "This module is gone"),
    ],
)
def test_former_name_is_refused_with_the_new_one(statement: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "my_metrics.py").write_text(f"import numpy\n\n{statement}\n")

    with importable(tmp_path), pytest.raises(ConfigError) as caught:
        check_imports({"evaluation: my_metrics:cost": "my_metrics"})

    message = str(caught.value)
    assert message.startswith("evaluation: my_metrics:cost: ")
    assert f"{tmp_path / 'my_metrics.py'}, line 3, which imports {statement.split()[1]}" in message
    assert remedy in message


def test_former_name_in_a_neighbour_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my_network.py").write_text("def build_model():\n    import my_layers\n")
    (tmp_path / "my_layers.py").write_text("from models import features\n")

    with importable(tmp_path), pytest.raises(ConfigError, match=r"my_layers\.py, line 1, which imports models"):
        check_imports({"model.module": "my_network"})


@pytest.mark.parametrize("place", ["models.py", "models/__init__.py", "models/features.py"])
def test_module_of_the_user_may_have_such_a_name(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "models", raising=False)  # where the tests hide the folder of this checkout
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    (tmp_path / "my_network.py").write_text("import models.features\nfrom . import models\n")

    with importable(tmp_path):
        check_imports({"model.module": "my_network"})


@pytest.mark.parametrize("module", ["numpy", "kubetfx.models.network", "my_missing", "my_lone_module.missing"])
def test_other_modules_are_left_to_whoever_loads_them(module: str, tmp_path: Path) -> None:
    (tmp_path / "my_lone_module.py").touch()

    with importable(tmp_path):
        check_imports({"model.module": module})


@pytest.mark.long
@pytest.mark.parametrize(
    "section",
    [
        {"definition": "mine:create_pipeline"},
        {"model": {"module": "mine"}},
        {"evaluation": {"thresholds": {"mine:cost": {"at_most": 1}}}},
        {"features": {"types": ["mine:Postcode"]}},
        {"training": {"loss": "mine:loss"}},
    ],
    ids=lambda section: next(iter(section)),
)
def test_run_and_compile_say_it_before_the_module_is_imported(section: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from components.evaluation import metric_registry\n")
    values = {"name": "penguins", "data": {"path": str(PENGUINS), "label": "species"}, **section}
    config = kubetfx.PipelineConfig(tmp_path, **values)

    for act in (kubetfx.run, lambda config: kubetfx.compile(config, tmp_path / "package.yaml")):
        with pytest.raises(ConfigError, match=r"Import kubetfx\.components\.evaluation\."):
            act(config)


def test_modules_of_one_name_in_two_projects_are_two(tmp_path: Path) -> None:
    found = []
    for number in (1, 2, 1):
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "same_name.py").write_text(f"NUMBER = {number}\n")
        with importable(folder):
            found.append(load_object("same_name:NUMBER", key="here"))
    assert found == [1, 2, 1]

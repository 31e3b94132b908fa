"""`import kubetfx`: what is there, what it costs, and how it says that something is wrong."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kubetfx

ROOT = Path(__file__).parents[2]
FUNCTIONS = [name for name in kubetfx.__all__ if inspect.isfunction(getattr(kubetfx, name))]


def test_import_takes_no_library_along():
    program = (
        "import sys; before = set(sys.modules); import kubetfx; dir(kubetfx); "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert printed.stdout.strip() == "['kubetfx']"


def test_every_public_name_is_there_and_has_documentation():
    assert set(kubetfx.__all__) <= set(dir(kubetfx))
    for name in kubetfx.__all__:
        assert getattr(kubetfx, name).__doc__, name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_documents_arguments_result_and_errors(name):
    text = inspect.getdoc(getattr(kubetfx, name))

    assert all(f"\n{part}:\n" in f"{text}\n" for part in ("Args", "Returns", "Raises")), text


def test_unknown_name_is_an_attribute_error_that_lists_the_names():
    with pytest.raises(AttributeError, match=r"has no attribute 'train'\. It has: .*load_config"):
        _ = kubetfx.train


def test_version_is_that_of_the_project():
    assert f'version = "{kubetfx.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("cloud", r"on: there is no runner 'cloud'\..* Known: local, kfp-local, kfp-docker; or your own"),
        ("no_such_module:Runner", r"on: the module no_such_module cannot be imported"),
        ("kubetfx.errors:Runner", r"on: the module kubetfx\.errors has no Runner\. .*It has: .*ConfigError"),
    ],
    ids=["no runner", "no module", "no attribute"],
)
def test_runner_that_is_not_there_is_told_before_anything_runs(tmp_path, monkeypatch, on, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kubetfx.errors.ConfigError, match=message):
        kubetfx.run({"name": "p", "data": {"path": "data", "label": "y"}}, on=on)
    assert not list(tmp_path.iterdir())


def test_users_modules_are_read_anew_and_the_path_is_as_it_was(tmp_path):
    from kubetfx.user_code import importable, load_object

    path = list(sys.path)
    values = []
    for value in (1, 2):
        (tmp_path / "my_values.py").write_text(f"VALUE = {value}  # {'x' * value}\n")
        with importable(tmp_path):
            values.append(load_object("my_values:VALUE", key="definition"))

    assert values == [1, 2]
    assert sys.path == path

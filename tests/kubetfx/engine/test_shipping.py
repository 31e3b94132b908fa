"""What workers are sent: an installation that has kubetfx and the user's modules, and nothing else."""

import subprocess
import sys
import zipfile

import pytest

from kubetfx.engine.shipping import build_package, own_digest
from kubetfx.errors import ConfigError
from kubetfx.user_code import importable

LOOK = """
import sys
sys.path.insert(0, sys.argv[1])
import kubetfx, shop_metric, shop_helpers, shop_package.inner.part
from kubetfx.components.data import block_work
from kubetfx.engine import probe, shipping
print(all(sys.argv[1] in module.__file__ for module in (kubetfx, shop_metric, shop_package, block_work)))
print(shipping.own_digest(), probe.digest(kubetfx.__path__[0]))
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "shop_metric.py").write_text("import shop_helpers\n")
    (tmp_path / "shop_helpers.py").write_text("")
    (tmp_path / "unrelated.py").write_text("")
    inner = tmp_path / "shop_package" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "shop_package" / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("")
    (inner / "part.py").write_text("from shop_package.inner import words\n")
    (inner / "words.py").write_text("")
    return tmp_path


def test_package_has_kubetfx_and_the_modules_of_the_user_and_what_they_import(project, tmp_path):
    with importable(project):
        package = build_package(
            ["shop_metric", "shop_package.inner.part", "yaml", "kubetfx.models.network"], tmp_path / "out"
        )

    with zipfile.ZipFile(package) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "installed")
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"kubetfx", "shop_metric.py", "shop_helpers.py", "shop_package"}
    assert "kubetfx/components/report/templates/report.html.j2" in names
    assert not [name for name in names if "__pycache__" in name]
    command = [sys.executable, "-c", LOOK, str(tmp_path / "installed")]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", own_digest(), own_digest()]


def test_a_later_package_takes_the_place_of_the_former(tmp_path):
    former = build_package([], tmp_path)
    later = build_package([], tmp_path)
    assert former != later
    assert list(tmp_path.glob("*.whl")) == [later]


def test_module_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"needed by workers\. Received: no_such_module\. Put it beside pipeline\.yaml"
    ):
        build_package(["no_such_module"], tmp_path)

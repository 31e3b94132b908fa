"""What is kept from being imported, and that it is there all the same for whoever asks for it."""

import gc
import subprocess
import sys

import pytest

from kubetfx.pipeline import spared_imports


def printed_by(program: str) -> str:
    """What a process of its own prints, in which nothing is imported yet."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.long
def test_what_is_spared_is_there_for_the_users_module():
    program = (
        "import sys\n"
        "from kubetfx.pipeline.spared_imports import imports_without_beam\n"
        "with imports_without_beam():\n"
        "    import kubetfx.components.evaluation.evaluation\n"
        "    [hasattr(module, '__file__') for module in list(sys.modules.values())]  # as inspect does\n"
        "spared = ('scipy.stats._stats_py', 'scipy.ndimage._ndimage_api', 'nltk', 'IPython', 'pymongo', 'sklearn')\n"
        "print([name for name in spared if name in sys.modules])\n"
        "import IPython.display, pymongo, scipy.ndimage, sklearn.linear_model\n"
        "import tensorflow_model_analysis as tfma\n"
        "from scipy import stats\n"
        "print(stats.norm.cdf(0.0), scipy.ndimage.sum([1, 2]), tfma.metrics.ExampleCount.__name__)\n"
    )
    assert printed_by(program).splitlines() == ["[]", "0.5 3 ExampleCount"]


def test_a_run_from_the_cache_imports_no_beam_and_no_tensorflow_and_executors_have_them_all_the_same():
    program = (
        "import importlib, sys\n"
        "from kubetfx.pipeline import local_runner, spared_imports\n"
        "with spared_imports.deferred_tensorflow():\n"
        "    for module in local_runner._MODULES_OF_DRIVERS:\n"
        "        importlib.import_module(module)\n"
        "print([name for name in ('apache_beam', 'docker', 'pandas', 'tensorflow') if name in sys.modules])\n"
        "from tfx.dsl.components.base import base_beam_executor\n"
        "print(base_beam_executor.beam.Pipeline.__name__)\n"
    )
    assert printed_by(program).splitlines() == ["[]", "Pipeline"]


def test_compile_imports_only_what_describes_a_pipeline(tmp_path):
    program = (
        "import pathlib, sys\n"
        "from kubetfx.kubeflow.compilation import compile\n"
        "from kubetfx.config.loading import load_config\n"
        "config = load_config(pathlib.Path('examples/penguins/pipeline.yaml'))\n"
        f"compile(config, {str(tmp_path / 'p.yaml')!r})\n"
        "spared = ('scipy.stats._stats_py', 'nltk', 'IPython', 'sklearn', 'kubetfx.models.training')\n"
        "print([name for name in spared if name in sys.modules])\n"
    )
    assert printed_by(program) == "[]"
    assert (tmp_path / "p.yaml").is_file()


def test_package_that_a_library_has_lost_is_no_error():
    spared_imports._make_lazy("email.gone")
    assert "email.gone" not in sys.modules


def test_nothing_is_collected_while_imports_last():
    with spared_imports.uncollected():
        assert not gc.isenabled()
        with spared_imports.uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError, match="no such module"), spared_imports.uncollected():
        raise ImportError("no such module")
    assert gc.isenabled()

"""The notebook in examples/ runs in a kernel whose working directory has a models/ and a components.py of its own."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook, executed."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(ROOT / "examples" / "penguins", folder / "penguins", ignore=shutil.ignore_patterns(".kubetfx"))
    shutil.copytree(ROOT / "examples" / "notebook", folder / "notebook")
    (folder / "notebook" / "models").mkdir()
    (folder / "notebook" / "models" / "__init__.py").write_text("raise ImportError('the models of the user')")
    (folder / "notebook" / "components.py").write_text("raise ImportError('the components of the user')")
    found = nbformat.read(folder / "notebook" / "penguins.ipynb", as_version=4)
    # Kernels are started with the working directory first on the path, as in JupyterLab.
    NotebookClient(found, timeout=300, resources={"metadata": {"path": str(folder / "notebook")}}).execute()
    return found


def outputs_of(notebook: nbformat.NotebookNode, source: str) -> list[nbformat.NotebookNode]:
    (cell,) = (cell for cell in notebook.cells if cell.source.startswith(source))
    outputs: list[nbformat.NotebookNode] = cell.outputs
    return outputs


@pytest.mark.long
def test_progress_of_the_run_goes_into_its_cell_and_nothing_else_does(notebook: nbformat.NotebookNode) -> None:
    outputs = outputs_of(notebook, "run = kubetfx.run(")
    shown = "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)

    assert "[1/11]" in shown
    assert "Report" in shown
    assert "absl" not in shown
    assert "tensorflow" not in shown.lower()


def test_run_is_shown_as_its_report(notebook: nbformat.NotebookNode) -> None:
    (output,) = (cell.outputs[0] for cell in notebook.cells if cell.source == "run")
    page = output.data["text/html"]

    assert page.startswith("<iframe sandbox srcdoc=")
    assert "Confusion matrix" in page


def test_package_has_no_faults_and_a_wrong_key_is_told(notebook: nbformat.NotebookNode) -> None:
    (compiled,) = outputs_of(notebook, "kubetfx.compile(")
    assert compiled.data["text/plain"].endswith(" [])")
    (told,) = outputs_of(notebook, "try:")
    assert "Did you mean 'epochs'?" in told.text


def test_pushed_model_takes_a_frame_and_gives_a_frame(notebook: nbformat.NotebookNode) -> None:
    (output,) = outputs_of(notebook, "import pandas")

    table = output.data["text/html"]
    assert all(column in table for column in ("label", "score", "probabilities.Adelie"))
    assert all(species in table for species in ("Adelie", "Gentoo", "Chinstrap"))

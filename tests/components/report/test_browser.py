"""The report as a person meets it: on a phone and on a wide screen, light and dark, offline."""

import dataclasses
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubetfx.components.report import comparison, render
from kubetfx.components.report.facts import Facts
from kubetfx.components.report.quality_facts import describe
from tests import scripts
from tests.components.report import chromium, sample


def failed() -> str:
    facts = sample.facts().model_copy(update={"evaluation": None, "quality": None, "push": None})
    return render.report(facts, sample.record("failed", nodes=5))


def compared() -> str:
    sides = [
        comparison.Side(sample.record(), sample.facts()),
        comparison.Side(sample.record(), sample.facts(blessed=True)),
    ]
    return render.comparison(comparison.compare(*sides))


def statistics() -> str:
    return render.statistics_page(sample.data_facts())


PAGES: dict[str, Callable[[], str]] = {
    "not blessed": lambda: render.report(sample.facts(), sample.record()),
    "pushed regression": lambda: render.report(sample.regression_facts(), sample.record("pushed")),
    "images": lambda: render.report(sample.image_facts(), sample.record("pushed")),
    "failed": failed,
    "comparison": compared,
    "statistics alone": statistics,
    "folds alone": lambda: render.cross_validation_page(sample.folds()),
}


@pytest.fixture(scope="module")
def page() -> Iterator[chromium.Page]:
    with chromium.running() as tab:
        yield tab


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, make in PAGES.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(make(), encoding="utf-8")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 768, 1100, 1440])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_its_window_and_asks_for_nothing(
    page: chromium.Page, files: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page.open(files[name], width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert page.problems == []
    assert page.requests == []
    content, window = page.evaluate(chromium.FIRST_LAYOUT)
    assert content <= window
    assert page.evaluate(chromium.OVERLAPS) == []
    assert page.evaluate(chromium.CUT_OFF) == []
    assert "taken over" not in page.evaluate("document.title")


@pytest.mark.parametrize("name", ["report.png", "report-quality.png", "report-words.png"])
def test_parts_that_the_documents_have_pictures_of_are_in_a_report(
    page: chromium.Page, files: dict[str, Path], name: str
) -> None:
    script = scripts.load("picture_reports")
    (picture,) = [one for one in script.PICTURES if one.name == name]

    png = script.taken(page, files["not blessed"], picture)

    width, height = struct.unpack(">II", png[16:24])
    assert 0.8 * picture.width <= width <= picture.width
    assert 0.2 * picture.height <= height <= picture.height


@pytest.mark.parametrize("name", PAGES)
def test_page_on_paper_keeps_bars_and_config(page: chromium.Page, files: dict[str, Path], name: str) -> None:
    page.open(files[name], width=700, scheme="dark", media="print")

    content, window = page.evaluate(chromium.FIRST_LAYOUT)
    assert content <= window
    assert page.evaluate(chromium.OVERLAPS) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    adjusted = "[...document.querySelectorAll('.bars span, .matrix td, .legend i')].map(one => getComputedStyle(one))"
    assert set(page.evaluate(f"{adjusted}.map(style => style.printColorAdjust)")) <= {"exact"}
    configs = "[...document.querySelectorAll('#provenance details pre')]"
    assert all(page.evaluate(f"{configs}.map(one => one.checkVisibility() && one.offsetHeight > 20)"))


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1440, "light")])
@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_serious_fault_of_accessibility(
    page: chromium.Page, files: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    source = chromium.axe_source()
    page.open(files[name], width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.evaluate(source)
    violations = page.evaluate("axe.run(document).then(result => result.violations)")

    serious = [
        (violation["id"], violation["help"], [node["html"][:120] for node in violation["nodes"][:3]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == [], json.dumps(serious, indent=1)


def test_page_works_in_the_sandboxed_frame_of_kubeflow_pipelines(page: chromium.Page, files: dict[str, Path]) -> None:
    """The UI puts a page into `srcdoc` of a frame that may run scripts and nothing else."""
    frame = files["failed"].with_name("frame.html")
    text = files["not blessed"].read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    frame.write_text(
        f'<!doctype html><link rel="icon" href="data:,"><iframe sandbox="allow-scripts" srcdoc="{text}"></iframe>'
    )
    page.open(frame, width=1440, scheme="light")

    assert page.problems == []
    assert page.requests == []


def test_folded_columns_stay_light_until_they_are_opened(page: chromium.Page, tmp_path: Path) -> None:
    path = tmp_path / "wide.html"
    path.write_text(
        render.report(Facts.model_validate(sample.facts(num_numbers=1000)), sample.record()), encoding="utf-8"
    )
    page.open(path, width=375, scheme="light")

    assert page.evaluate("document.querySelectorAll('#data > .cards > .card').length") == 50
    assert page.evaluate("document.querySelectorAll('#data details .card').length") == 1011 - 50
    content, window = page.evaluate(chromium.FIRST_LAYOUT)
    assert content <= window


@pytest.mark.parametrize("scale", [1e-6, 1.0, 12_345_678.0])
def test_numbers_of_any_size_have_room_in_figures(page: chromium.Page, tmp_path: Path, scale: float) -> None:
    facts = sample.regression_facts()
    predicted = sample.regression_predictions()
    large = dataclasses.replace(predicted, labels=predicted.labels * scale, outputs=predicted.outputs * scale)
    curve = [0.00298 * scale, 0.00297 * scale, 0.002965 * scale]
    training = facts.training.model_copy(
        update={"epochs": 3, "history": {"loss": curve, "val_loss": curve}, "learning_rate": curve}
    )
    quality = describe(large, total_rows=300, seed=0)
    path = tmp_path / "numbers.html"
    path.write_text(
        render.report(facts.model_copy(update={"quality": quality, "training": training}), sample.record("pushed"))
    )
    page.open(path, width=375, scheme="light")

    assert page.evaluate(chromium.CUT_OFF) == []
    assert page.evaluate(chromium.OVERLAPS) == []


def test_what_these_tests_look_for_is_found_where_it_is(page: chromium.Page, tmp_path: Path) -> None:
    path = tmp_path / "faulty.html"
    path.write_text(
        "<!doctype html><img src='https://example.invalid/a.png'><script>nothing()</script>"
        "<p style='position:absolute;top:99px'>over</p><p style='position:absolute;top:101px'>under</p>"
        "<div style='width:3000px'>wide</div>"
        "<svg viewBox='0 0 20 20' style='margin-top:300px'><text y='10'>farther than 20</text></svg>"
    )
    page.open(path, width=375, scheme="light")

    assert any("nothing is not defined" in problem or "Uncaught" in problem for problem in page.problems)
    assert page.requests == ["https://example.invalid/a.png"]
    content, window = page.evaluate(chromium.FIRST_LAYOUT)
    assert content > window
    assert [found[:2] for found in page.evaluate(chromium.OVERLAPS)] == [["over", "under"]]
    assert page.evaluate(chromium.CUT_OFF) == ["farther than 20"]

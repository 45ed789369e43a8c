"""`mmpsr report` of a run: one file, its sections, and how it looks in a browser."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support import report_in_browser, stored_run
from tests.support.accessible import grave, set_view
from tests.training.report.test_page import Outline
from training.evaluation.evaluate import EvaluationOptions, evaluate
from training.report.page import Page, render
from training.report.run import run_page, write_report
from training.runs.directory import RunError
from training.scoring.rows import plain
from tuning.console import app

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_resamples")]


def add_training(path: Path) -> None:
    """Three epochs as a run with GradNorm, pseudo-labels and looks at gradients logs them."""
    tasks = {"emotion": ("Anger", "Fear"), "personality": ("openness",), "ambivalence": ("absent", "present")}
    names = [f"{branch}/{task}" for branch in ("supervised", "pseudo") for task in tasks]
    with open(path / "metrics.jsonl", "w", encoding="utf-8") as file:
        for epoch in (1, 2, 3):
            record = {
                "epoch": epoch, "step": 10 * epoch, "lr": 1e-3, "dev_figure": 50.0 - (epoch - 2) ** 2,
                "dev": {"bah/ambivalence/macro_f1": 50.0 + epoch, "fiv2/personality/mean_ccc": 20.0},
                "terms": {name: {"loss": 0.3 / epoch, "count": 1.0, "weight": epoch / 3} for name in names},
                "accepted": {task: dict.fromkeys(classes, 1 / epoch) for task, classes in tasks.items()},
                "pseudo_label_quality": {task: {"accuracy": 0.5} for task in tasks},
                "gradient_cosines": {one: {two: -0.1 * epoch for two in names if two > one} for one in names},
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = stored_run.finish(tmp_path_factory.mktemp("runs"))
    add_training(found)
    return found


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return run_page(path)


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    return render(page)


@pytest.fixture(scope="module")
def written(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """What the command says and the file it writes, of the same run once more."""
    output = tmp_path_factory.mktemp("reports") / "new" / "r.html"
    return report(path, output), output


def report(run: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["report", str(run), "-o", str(output), *options], catch_exceptions=False)


def test_the_file(written: tuple[Result, Path], html: str) -> None:
    result, output = written
    assert result.exit_code == 0
    assert output.read_text(encoding="utf-8") == html
    assert result.stdout.startswith(f"report {output} (0.")
    assert list(output.parent.iterdir()) == [output]


def test_sections_and_figures(path: Path, html: str) -> None:
    outline = Outline(html)
    sections = [found["id"] for found in outline.named("section") if "id" in found]
    assert [name for name in sections if name != "leakage"] == [
        "figures", "classes", "confusion", "calibration", "coverage", "subgroups", "correlations", "training", "data",
        "cost", "settings", "defects",
    ]  # fmt: skip
    assert not outline.named("script")
    for row in json.loads((path / "results.json").read_text()):
        assert f"{row['model']:.2f}" in outline.text
    identifiers = [found["id"] for _, found in outline.tags if "id" in found]
    assert len(identifiers) == len(set(identifiers))


def test_unseen_corpora_are_fitted_too(path: Path, html: str, monkeypatch: pytest.MonkeyPatch) -> None:
    title = "Unseen corpora, fitted to their clips without labels"
    assert title not in html  # MELD has fewer than 30 clips
    monkeypatch.setattr("training.evaluation.breakdowns.MIN_CLIPS", 2)
    text = Outline(render(run_page(path))).text
    rows = plain(evaluate(path, EvaluationOptions(adapt=True)))["adapted"]
    part = text[text.index(title) :]
    assert len(rows) == 3
    for row in rows:
        place = part.index(f"{row['before']:.2f}")
        assert f"{row['value']:.2f}" in part[place:]
    assert f"Neutral {100 * rows[0]['shares']['Neutral']:.0f} %" in part


def test_every_chart_has_a_caption_and_what_is_measured(html: str) -> None:
    outline = Outline(html)
    captions = [found for found in outline.named("div") if found.get("role") == "img"]
    assert len(captions) == len(outline.named("svg")) > 20
    assert all(len(str(found["aria-label"]).partition(". ")[2]) > 30 for found in captions)


def test_training_clips_are_counted_where_the_run_noted_them(path: Path, html: str, tmp_path: Path) -> None:
    assert (path / "data.json").exists()
    assert "Training clips are not counted" not in html
    older = shutil.copytree(path, tmp_path / "older")
    for name in ("data.json", "metrics.jsonl", "manifest.json", "best.safetensors"):
        (older / name).unlink()
    found = render(run_page(older))
    assert "Training clips are not counted" in found
    assert 'id="training"' not in found


def test_the_same_run_gives_the_same_bytes(written: tuple[Result, Path], html: str) -> None:
    assert written[1].read_bytes() == html.encode()


def test_what_cannot_be_reported(path: Path, page: Page, tmp_path: Path) -> None:
    result = report(tmp_path, tmp_path / "r.html")
    assert result.exit_code == 2
    assert "has no config.json: name the folder of a finished run" in result.stderr
    assert report(path, tmp_path / "r.html", "--by", "nonsense").exit_code == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .* name another file with -o"):
        write_report(page, tmp_path / "file" / "r.html")


browser = report_in_browser.browser


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", report_in_browser.SIZES)
def test_it_is_legible(browser: Any, html: str, tmp_path: Path, size: str, theme: str) -> None:
    page = tmp_path / "report.html"
    page.write_text(html, encoding="utf-8")
    report_in_browser.require_legible(browser, page, size, theme)


def test_what_cannot_be_read_would_be_found(browser: Any, tmp_path: Path) -> None:
    page = "<html lang=en><title>t</title><main><h1>t</h1><img src=x><p style='color:#aaa'>words</p>"
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    set_view(browser, 800, "light")
    browser.get((tmp_path / "page.html").as_uri())
    assert sorted(found.split()[0] for found in grave(browser)) == ["color-contrast", "image-alt"]


def test_print_is_light_and_unfolded(browser: Any, html: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html, encoding="utf-8")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    found = report_in_browser.look(browser, page, 760, media="print", features=dark)
    assert found["page"] == "rgb(255, 255, 255)"
    assert found["wrong"] == []
    hidden = "return [...document.querySelectorAll('details table')].filter(each => !each.offsetHeight).length"
    assert found["folded"] > 2
    assert browser.execute_script(hidden) == 0
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")

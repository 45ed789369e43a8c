"""The line over predictions: clips, corpora, figures beside linear and chance, generated clips, what is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpora.registry import CorporaConfig
from tests.support.stored_run import few_resamples, finish
from training.runs.origin import CorpusOrigin, MainFigure, Origin, main_figures, run_origin, sources_of
from training.runs.trained import TrainedModel
from training.runs.verify import verify_run

OWN = CorpusOrigin("own", zero_shot=False, generated=False, num_trained=36)
DEMO = CorpusOrigin("mosei", zero_shot=False, generated=True, num_trained=108)
MELD = CorpusOrigin("meld", zero_shot=True, generated=False, num_trained=0)
FIGURE = MainFigure("own", "test", "ambivalence", "macro_f1", 12, 61.26, 60.0, 33.33)


def test_clips_corpora_and_figures() -> None:
    text = Origin("own/1", (OWN,), (FIGURE,)).line("bundle")
    assert text == (
        "Model bundle (run own/1), trained on 36 clips of own. Test: ambivalence (own) MF1 61.3 % (linear baseline "
        "60.0, chance 33.3)."
    )
    other = CorpusOrigin("more", zero_shot=False, generated=False, num_trained=1000)
    text = Origin("own/1", (OWN, other, MELD)).line("1")
    # 36 + 1000; a corpus that it was never trained on does not count
    assert text == "Model own/1, trained on 1036 clips (own 36, more 1000). No test figures are stored."


def test_what_is_not_stored_is_said() -> None:
    assert Origin("own/1").line("1") == (
        "Model own/1: what it was trained on is not stored. No test figures are stored."
    )
    old = CorpusOrigin("own", zero_shot=False, generated=False)
    assert "trained on an unknown number of clips of own." in Origin("own/1", (old,)).line("1")
    figures = (
        MainFigure("own", "dev", "ambivalence", "macro_f1", 12, 61.26, None, None),
        MainFigure("meld", "test", "emotion", "uar", 12, 40.0, 41.0, 20.0),
        MainFigure("meld", "test", "other", "uar", 12, None, 41.0, 20.0),
    )
    text = Origin("own/1", (old, MELD), figures).line("1")
    assert "ambivalence (own, dev clips) MF1 61.3 % (linear baseline not stored, chance not stored); " in text
    assert text.endswith("emotion (meld, never trained on) UAR 40.0 % (linear baseline 41.0, chance 20.0).")


def test_generated_clips_are_the_first_thing_said_and_bear_no_corpus_name() -> None:
    figure = MainFigure("mosei", "test", "emotion", "uar", 12, 40.0, 41.0, 20.0)
    text = Origin("demo/1", (DEMO, DEMO), (figure,)).line("demo-bundle")
    # 108 twice
    assert text == (
        "Trained on generated clips and tells nothing about people: model demo-bundle (run demo/1), 216 clips that a "
        "program made. Test: emotion (generated clips) UAR 40.0 % (linear baseline 41.0, chance 20.0)."
    )
    both = Origin("own/1", (OWN, DEMO))
    assert not both.is_generated
    assert "36 clips of own and on 108 clips that a program made, which tell nothing about people" in both.line("1")
    assert Origin("demo/1", (DEMO, MELD)).is_generated  # what it is only evaluated on teaches it nothing
    assert not Origin("own/1").is_generated


def test_the_first_metric_of_test_else_of_dev() -> None:
    rows = [
        {"corpus": corpus, "split": split, "task": "t", "metric": metric, "num_clips": 5, "model": value, "linear": 1.0,
         "chance": float("nan")}
        for corpus, split, metric, value in (
            ("a", "dev", "uar", 1.0), ("a", "test", "uar", 2.0), ("a", "test", "macro_f1", 3.0),
            ("b", "dev", "uar", 4.0), ("b", "train", "uar", 5.0),
        )
    ]  # fmt: skip
    assert main_figures(rows) == (
        MainFigure("a", "test", "t", "uar", 5, 2.0, 1.0, None), MainFigure("b", "dev", "t", "uar", 5, 4.0, 1.0, None),
    )  # fmt: skip


def test_runs_before_are_judged_by_their_configuration(tmp_path: Path) -> None:
    sources = {"a": {"adapter": "meld", "path": "a"}, "b": {"adapter": "meld", "path": str(tmp_path / "b")}}
    config = CorporaConfig.model_validate({"root": str(tmp_path / "demo"), "build": "demo", "sources": sources})
    assert [(each.generated, each.num_trained) for each in sources_of(config, None)] == [(True, None), (False, None)]
    in_time = {"c": {"adapter": "bah", "path": "bah_frames"}, **sources}
    frames = CorporaConfig.model_validate({"root": str(tmp_path / "demo"), "build": "demo-frames", "sources": in_time})
    assert [each.generated for each in sources_of(frames, None)] == [True, False, False]
    plain = config.model_copy(update={"build": "none"})
    assert not any(each.generated for each in sources_of(plain, None))
    data = {"clips": [{"corpus": "b", "split": "train", "num_clips": 7}], "generated": ["b"]}
    assert [(each.generated, each.num_trained) for each in sources_of(plain, data)] == [(False, 0), (True, 7)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with few_resamples():
        return finish(tmp_path_factory.mktemp("runs"))


def test_a_run_stores_it_under_its_sums(run: Path) -> None:
    origin = TrainedModel.read(run).origin
    assert origin is not None
    # three fifths of 60, 50 and 40 clips are train; MELD is evaluated only
    assert [each.num_trained for each in origin.trained] == [36, 30, 24]
    text = origin.line(run.name)
    assert text.startswith(f"Model small/{run.name}, trained on 90 clips (mosei 36, fiv2 30, bah 24). Test: emotion (")
    row = next(row for row in json.loads((run / "results.json").read_text()) if row["split"] == "test")
    shown = f"{row['model']:.1f} % (linear baseline {row['linear']:.1f}, chance {row['chance']:.1f})"
    assert shown in text
    assert "(meld, dev clips, never trained on)" in text
    data = json.loads((run / "data.json").read_text())
    assert data["generated"] == []
    content = (run / "data.json").read_bytes()
    (run / "data.json").write_text(json.dumps({**data, "generated": ["mosei"]}))
    try:
        assert any("data.json was changed" in problem for problem in verify_run(run))
        text = run_origin(run, TrainedModel.read(run).config.corpora).line("x")
        assert "54 clips (fiv2 30, bah 24) and on 36 clips that a program made" in text
    finally:
        (run / "data.json").write_bytes(content)

"""Prediction of recordings: parity with the run's own path, absences, texts, vectors, and what stays warm."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from corpora.clips import CorpusError
from encoders.base import pool
from encoders.config import TranscriberConfig
from encoders.errors import ExtractionError
from encoders.extraction.read import make_encoders
from encoders.media.clip import ClipMedia
from encoders.writers import fill as text_filling
from mmpsr.calibration.novelty import Novelty, NoveltyFit
from mmpsr.config import ConfigError
from mmpsr.explanation.explain import explain
from tests.support import executors, fake_writers, predicted_run
from tests.support.predicted_run import write_run, write_video
from training.bundle.files import BundleError
from training.data.joined import JoinedCorpora
from training.predict import clips as prediction_data
from training.predict import explaining
from training.predict import predictor as module
from training.predict.inputs import InputError
from training.predict.predictor import Predictor, StageClock, open_predictor
from training.runs.directory import RunError
from training.runs.trained import TrainedModel


def test_seconds_go_to_the_stage_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    moments, told = iter([0.0, 1.0, 3.0, 7.0]), list[str]()
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    clock = StageClock(told.append)
    clock.enter("a")  # at 1; what came before belongs to none
    clock.enter("b")  # at 3
    assert clock.leave() == {"a": 2.0, "b": 4.0}
    assert told == ["a", "b"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture
def predictor(run: Path) -> Predictor:
    return Predictor.from_run(run)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for number in range(3):
        write_video(folder / f"{number}.mkv", seconds=3 + number, first=5 + 9 * number, loud=number != 1)
        (folder / f"{number}.txt").write_text("hello " * (number + 1), encoding="utf-8")
    (folder / "1-broken.mkv").write_bytes(b"no video")
    return folder


def by_hand(run: Path, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What the run's model says of vectors that are made and pooled without a store."""
    trained = TrainedModel.read(run)
    clips = [ClipMedia.from_row(row) for row in table.to_dict("records")]
    features, presence = {}, []
    for name, encoder in make_encoders(trained.features).items():
        results = encoder.encode(clips)
        there = [not isinstance(each, Exception) for each in results]
        blank = np.zeros(2 * encoder.width, dtype=np.float32)
        vectors = [blank if isinstance(each, Exception) else pool(each) for each in results]
        features[name] = torch.from_numpy(np.stack(vectors))
        presence.append(torch.tensor(there))
    joined = JoinedCorpora(table, features, torch.stack(presence, dim=1), {})
    return trained.predict(joined, torch.arange(len(table)))


def table_of(media: Path) -> pd.DataFrame:
    rows = [
        {"corpus": "mine", "clip_id": str(n), "media": str(media / f"{n}.mkv"), "text": "hello " * (n + 1)}
        for n in range(3)
    ]
    return pd.DataFrame(rows)


def test_gives_what_the_runs_own_path_gives_and_notices_another_constant(
    run: Path, media: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_hand(run, table_of(media))
    results = predictor.predict(table_of(media))
    files = predictor.predict([media / f"{n}.mkv" for n in range(3)], ["hello " * (n + 1) for n in range(3)])
    for task, values in expected.items():
        np.testing.assert_allclose(results.predicted[task], values, atol=1e-6)
        np.testing.assert_allclose(files.predicted[task], values, atol=1e-6)
        assert values.std(axis=0).max() > 1e-3
    monkeypatch.setattr(predicted_run, "SCALE", 254.0)
    other = predictor.predict(table_of(media))
    assert max(np.abs(other.predicted[task] - values).max() for task, values in expected.items()) > 1e-5


def test_results_are_typed_and_name_what_is_absent(predictor: Predictor, media: Path) -> None:
    stages: list[str] = []
    results = predictor.predict(media, confidence=0.99, on_stage=stages.append)
    assert stages == list(results.seconds) == ["inputs", "texts", "features", "prediction"]
    assert [clip.id for clip in results] == ["0.mkv", "1.mkv", "2.mkv"]
    one, two = results[0], results[1]
    assert one.absent == {}
    assert two.absent == {"audio": f"{media / '1.mkv'}: no audio stream (found: video)"}
    assert (one.text, one.text_source, one.path) == ("hello", "given", str(media / "0.mkv"))
    assert one.notes == {"video": "8 frames"}
    assert one.tasks["emotion"].abstained
    assert set(one.tasks["personality"].intervals) == {"openness", "conscientiousness"}
    assert one.tasks["ambivalence"].values["present"] == results.predicted["ambivalence"][0, 1]
    (defect,) = results.defects
    assert defect.id == "1-broken.mkv"
    assert defect.reason.startswith(f"{media / '1-broken.mkv'}: cannot be opened as media")
    assert defect.reason.count("cannot be opened") == 1
    assert defect.reason.endswith("; no transcript")
    assert len(results.to_frame()) == 4


def test_the_batch_gives_the_results_again(predictor: Predictor, media: Path) -> None:
    results = predictor.predict(media)
    assert results.joined.clips["recording"].tolist() == [clip.id for clip in results]
    again = predictor.trained.model(results.batch)
    calibrated = predictor.trained.calibration.apply(
        "ambivalence", again.of("ambivalence").softmax(1).double().detach().numpy()
    )
    np.testing.assert_allclose(calibrated, results.predicted["ambivalence"], atol=1e-6)


def test_windows_with_their_own_words(predictor: Predictor, media: Path, tmp_path: Path) -> None:
    subtitles = "00:00:00,000 --> 00:00:01,000\nfirst\n\n00:00:04,100 --> 00:00:04,900\nlast\n"
    (tmp_path / "2.srt").write_text(subtitles, encoding="utf-8")
    results = predictor.predict(media / "2.mkv", window=2.0, transcripts=tmp_path)
    assert [clip.text for clip in results] == ["first", None, "last"]
    assert results[1].absent == {"text": "the transcript has no words in this span"}
    assert [clip.start for clip in results] == pytest.approx([0.0, 2.0, 3.0], abs=0.05)
    grey = results.joined.features["video"][:, 0]
    assert (grey.diff() > 0.01).all()  # it gets brighter


def test_a_store_is_reused_and_a_temporary_one_is_gone(predictor: Predictor, media: Path, tmp_path: Path) -> None:
    predicted_run.ENCODED.clear()
    first = predictor.predict(media, store=tmp_path)
    assert len(predicted_run.ENCODED) == 4
    again = predictor.predict(media, store=tmp_path)
    assert len(predicted_run.ENCODED) == 4
    for task in first.tasks:
        assert np.array_equal(first.predicted[task], again.predicted[task])
    assert again.defects == first.defects
    predictor.predict(media / "0.mkv", "other words", store=tmp_path)
    assert len(predicted_run.ENCODED) == 4  # only the text is new
    predictor.predict(media / "0.mkv")
    assert len(predicted_run.ENCODED) == 5


def test_what_a_clip_table_lacks_is_filled_in_and_what_is_wrong_is_said(predictor: Predictor, media: Path) -> None:
    results = predictor.predict(
        pd.DataFrame({"clip_id": ["x"], "media": [str(media / "0.mkv")], "emotion.Anger": [3.0]})
    )
    assert results[0].id == "x"
    assert results[0].absent == {"text": "no transcript"}
    assert results[0].text_source is None
    with pytest.raises(CorpusError, match="occurs twice"):
        predictor.predict(pd.DataFrame({"clip_id": ["x", "x"]}))
    with pytest.raises(ValueError, match="a clip table has texts and spans of its own"):
        predictor.predict(table_of(media), texts="hello")
    with pytest.raises(ValueError, match=r"a confidence is a probability between 0 and 1, found 80"):
        predictor.predict(media, confidence=80)
    with pytest.raises(FileNotFoundError, match=r"there is no recording .*missing\.mkv; name files, folders or globs"):
        predictor.predict([media / "1-broken.mkv", media / "missing.mkv"])
    with pytest.raises(InputError, match="nothing to predict"):
        predictor.predict([])


def test_nothing_that_can_be_predicted(predictor: Predictor, media: Path) -> None:
    table = pd.DataFrame({"clip_id": ["1-broken.mkv", "missing.mkv"]})
    table["media"] = [str(media / name) for name in table["clip_id"]]
    results = predictor.predict(table)
    assert len(results) == 0
    assert [each.id for each in results.defects] == ["1-broken.mkv", "missing.mkv"]
    assert "file does not exist" in results.defects[1].reason
    assert results.predicted["emotion"].shape == (0, 7)


def test_a_speech_model_that_is_not_at_hand_is_noted(
    predictor: Predictor, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.features = predictor.features.model_copy(
        update={"transcriber": TranscriberConfig(model="openai/whisper-tiny")}
    )

    def fail(*_: object, **__: object) -> None:
        raise ExtractionError("whisper-tiny is not here")

    monkeypatch.setattr(text_filling, "fill_texts", fail)
    results = predictor.predict([media / "0.mkv"])
    assert results.notes == ("no transcripts are written: whisper-tiny is not here",)
    assert len(results) == 1

    def write(clips: pd.DataFrame, *_: object, **__: object) -> text_filling.FilledTexts:
        filled = clips.assign(text=clips["text"].fillna("heard"), language="en")
        return text_filling.FilledTexts(filled, None)  # type: ignore[arg-type]

    monkeypatch.setattr(text_filling, "fill_texts", write)
    table = table_of(media).assign(text=[None, "given", None])
    results = predictor.predict(table)
    assert [(clip.text, clip.text_source) for clip in results] == [
        ("heard", "written"), ("given", "given"), ("heard", "written"),
    ]  # fmt: skip
    assert results.notes == ()


def test_vectors_predict_as_recordings_do(predictor: Predictor, media: Path) -> None:
    from_files = predictor.predict(table_of(media))
    vectors = {name: values.numpy().copy() for name, values in from_files.joined.features.items()}
    vectors["audio"][1] = np.nan
    results = predictor.predict_vectors(vectors)
    for task, values in from_files.predicted.items():
        np.testing.assert_allclose(results.predicted[task], values, atol=1e-6)
    assert [clip.absent for clip in results] == [{}, {"audio": "not given"}, {}]
    hidden = predictor.predict_vectors(vectors, {"audio": [False, False, True]})
    assert [clip.absent for clip in hidden] == [{"audio": "not given"}, {"audio": "not given"}, {}]
    text = predictor.predict_vectors({"text": vectors["text"]})
    assert text[0].absent == {"video": "not given", "audio": "not given"}
    empty = predictor.predict_vectors({"text": np.full((2, 4), np.nan)})
    assert (len(empty), [each.id for each in empty.defects]) == (0, ["0", "1"])


def test_vectors_that_do_not_fit(predictor: Predictor) -> None:
    for vectors, presence, message in (
        ({"sound": np.zeros((1, 2))}, None, r"the model takes no 'sound'; known names are audio, text, video"),
        ({"text": np.zeros((2, 3))}, None, r"text has shape \[2, 3\], expected \[2, 4\]"),
        ({"text": np.zeros((2, 4)), "audio": np.zeros((1, 2))}, None, r"audio has shape \[1, 2\], expected \[2, 2\]"),
        ({"text": np.zeros((2, 4))}, {"text": [True]}, r"presence of text has shape \[1\], expected \[2\]"),
        (
            {"text": np.full((2, 4), np.nan)},
            {"text": [False, True]},
            "text: row 1 is said to be present but is not finite",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            predictor.predict_vectors(vectors, presence)


def test_encoders_stay_until_they_are_let_go(predictor: Predictor, media: Path) -> None:
    with predictor:
        predictor.predict(media / "0.mkv")
        warm = predictor._warm
        assert warm is not None
        predictor.predict(media / "1.mkv")
        assert predictor._warm is warm
    assert predictor._warm is None
    assert len(predictor.predict(media / "0.mkv")) == 1


def test_threads_do_not_mix(predictor: Predictor, media: Path) -> None:
    expected = [predictor.predict(media / f"{n}.mkv").predicted["emotion"] for n in range(3)]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(
            target=lambda n=n: found.update({n: predictor.predict(media / f"{n}.mkv").predicted["emotion"]})
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, values in enumerate(expected):
        np.testing.assert_allclose(found[number], values, atol=1e-6)
    assert np.abs(expected[0] - expected[2]).max() > 1e-3


def test_a_model_over_sequences_takes_clips_that_have_none(tmp_path: Path, media: Path) -> None:
    run = write_run(
        tmp_path / "run", features={"sequences": {"video": 4, "audio": 4}},
        model={"kind": "conflict_aware", "hidden_width": 8},
    )  # fmt: skip
    with Predictor.from_run(run) as predictor:
        together = predictor.predict(media)
        alone = predictor.predict(media / "1.mkv")  # no clip has a sequence of audio
        np.testing.assert_allclose(alone.predicted["emotion"][0], together.predicted["emotion"][1], atol=1e-6)
        with pytest.raises(ValueError, match="the model reads sequences"):
            predictor.predict_vectors({"text": np.zeros((1, 4))})


def test_other_encoders_than_the_runs_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    keys = (run / "features.json").read_text(encoding="utf-8")
    (run / "features.json").write_text(keys.replace('"grey-', '"grey-0'), encoding="utf-8")
    with pytest.raises(BundleError, match="video: the model was trained on vectors of grey-0"):
        Predictor.from_run(run)
    with pytest.raises(RunError, match="is no run directory"):
        Predictor.from_run(tmp_path / "nothing")


def test_a_predictor_of_neither_run_nor_bundle_cannot_be_saved(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only a predictor that was read from a run or a bundle"):
        Predictor(replace(predictor.trained)).save_pretrained(tmp_path / "bundle")


def test_explanations_add_up_in_the_order_of_the_clips(
    predictor: Predictor, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = predictor.predict(media)  # 0, 1 (silent), 1-broken (text of no file: none), 2
    whole = predictor.explain(results)
    monkeypatch.setattr(explaining, "PIECE", 2)
    found = predictor.explain(results)
    assert len(found) == len(results) == 3
    assert [each.present for each in found] == [
        ("video", "audio", "text"), ("video", "text"), ("video", "audio", "text"),
    ]  # fmt: skip
    for row, (each, together) in enumerate(zip(found, whole, strict=True)):
        for task, why in each.tasks.items():
            prediction = np.array(list(why.prediction.values()))
            np.testing.assert_allclose(prediction, results.predicted[task][row], atol=1e-6)
            added = np.array([list(values.values()) for values in why.shapley.values()])
            np.testing.assert_allclose(added.sum(axis=0), prediction - np.array(list(why.baseline.values())), atol=1e-6)
            assert np.abs(added[0]).max() > 1e-3
            for name, values in why.shapley.items():
                assert list(values.values()) == pytest.approx(
                    list(together.tasks[task].shapley[name].values()), abs=1e-6
                )
    assert set(found[1].tasks["emotion"].shapley["audio"].values()) == {0.0}
    assert predictor.explain(predictor.predict(media / "1-broken.mkv")) == []


def test_an_executor_encodes_and_explains_as_this_process(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "PIECE", 1)
    jobs = executors.jobs_of_threads(monkeypatch)
    with Predictor.from_run(write_run(tmp_path / "run")) as away:
        own = away.predict(media)
        expected = away.explain(own)
        assert (jobs, away.num_workers) == ([], 1)
        with pytest.raises(ConfigError, match="executor is 'nobody', which is neither"):
            away.use_executor("nobody")
        away.use_executor("tests.support.executors:threads")
        results = away.predict(media)
        assert {*jobs} == {"encode_job"}
        assert away.explain(results) == expected
        assert (jobs.count("explain_there"), away.num_workers) == (3, 2)
    for task, values in own.predicted.items():
        np.testing.assert_array_equal(results.predicted[task], values)


def test_explanations_of_a_model_over_sequences_do_not_depend_on_the_piece(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(
        tmp_path / "run", features={"sequences": {"video": 4, "audio": 4}},
        model={"kind": "conflict_aware", "hidden_width": 8},
    )  # fmt: skip
    monkeypatch.setattr(explaining, "PIECE", 1)
    with Predictor.from_run(run) as predictor:
        results = predictor.predict(media)
        found = predictor.explain(results)
    together = explain(predictor.trained.model, results.batch, predictor.trained.calibration)
    for row, (each, expected) in enumerate(zip(found, together, strict=True)):
        for task, why in each.tasks.items():
            for name, values in why.shapley.items():
                assert list(values.values()) == pytest.approx(
                    list(expected.tasks[task].shapley[name].values()), abs=1e-6
                )
            assert list(why.prediction.values()) == pytest.approx(results.predicted[task][row].tolist(), abs=1e-6)


def test_explaining_and_predicting_take_turns(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {"text": np.ones((1, 4))}
    results = predictor.predict_vectors(vectors)
    monkeypatch.setattr(module, "explain_clips", lambda *_: [])  # at once, if it need not wait
    monkeypatch.setattr(module, "results_of", lambda *_: results)
    for work in (lambda: predictor.explain(results), lambda: predictor.predict_vectors(vectors)):
        thread = threading.Thread(target=work)
        with predictor._lock:
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
        thread.join(10)
        assert not thread.is_alive()


def test_a_model_that_writes_texts_is_loaded_once(
    predictor: Predictor, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.features = predictor.features.model_copy(update={"transcriber": TranscriberConfig(model="fake/writer")})
    made: list[fake_writers.FakeWriter] = []

    def make(*_: object) -> list[fake_writers.FakeWriter]:
        made.append(fake_writers.FakeWriter(tmp_path / "log"))
        return made[-1:]

    monkeypatch.setattr(prediction_data, "text_writers", make)
    for number in (0, 2):
        table = table_of(media).iloc[[number]].assign(text=None)
        assert predictor.predict(table)[0].text == f"words of {number}"  # of another store each time
    assert [writer.loaded for writer in made] == [1]
    predictor.close()
    predictor.predict(table)
    assert [writer.loaded for writer in made] == [1, 1]


def test_words_can_be_written_for_a_run_that_had_them_given(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = {"video": "tests.support.predicted_run:Grey", "text": "tests.support.predicted_run:Letters"}
    run = write_run(tmp_path / "run", features={"encoders": encoders}, data={"modalities": ["video", "text"]})
    monkeypatch.setattr(prediction_data, "text_writers", lambda *_: [fake_writers.FakeWriter(tmp_path / "log")])
    table = table_of(media).assign(text=[None, "given", None])
    with Predictor.from_run(run, transcribe=True) as predictor:
        results = predictor.predict(table)
        assert [(clip.text, clip.text_source) for clip in results] == [
            ("words of 0", "written"), ("given", "given"), ("words of 2", "written"),
        ]  # fmt: skip
        (note,) = results.notes
        assert note.startswith("words that nobody gave are as openai/whisper-large-v3-turbo heard them; the model was")
        assert predictor.predict(table.iloc[[1]]).notes == ()
    with Predictor.from_run(run) as predictor:
        assert [clip.text for clip in predictor.predict(table)] == [None, "given", None]
    grey = {"video": "tests.support.predicted_run:Grey"}
    silent = write_run(tmp_path / "silent", features={"encoders": grey}, data={"modalities": ["video"]})
    with pytest.raises(InputError, match="the model takes no words, but video; leave --transcribe out"):
        open_predictor(str(silent), transcribe=True)


def test_a_writer_that_could_not_be_loaded_is_tried_again(
    predictor: Predictor, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.features = predictor.features.model_copy(update={"transcriber": TranscriberConfig(model="fake/writer")})
    writer, load = fake_writers.FakeWriter(tmp_path / "log"), fake_writers.FakeWriter.load
    monkeypatch.setattr(prediction_data, "text_writers", lambda *_: [writer])

    def fail(self: fake_writers.FakeWriter) -> None:
        raise ExtractionError("no weights")

    table = table_of(media).assign(text=None)
    monkeypatch.setattr(fake_writers.FakeWriter, "load", fail)
    assert predictor.predict(table).notes == ("no transcripts are written: no weights",)
    monkeypatch.setattr(fake_writers.FakeWriter, "load", load)
    assert predictor.predict(table)[0].text == "words of 0"


def test_novelty_is_told_by_modality_and_abstains_where_it_is_asked_for(predictor: Predictor) -> None:
    trained = predictor.trained
    fits = {"audio": NoveltyFit(np.zeros(2), np.eye(2), np.ones(2), 1.0, np.array([1.0, 2.0, 4.0]))}
    judging = Predictor(replace(trained, novelty=Novelty(fits)))
    # the standardizers of this model leave vectors as they are: distances sqrt(2 * 8^2 / 2) = 8 and 2
    vectors = {"audio": np.array([[8.0, 8.0], [2.0, 2.0], [np.nan, np.nan]]), "text": np.ones((3, 4))}
    far, usual, none = judging.predict_vectors(vectors, novelty=1.0)
    assert far.novelty["audio"].distance == pytest.approx(8.0)
    assert (far.novelty["audio"].num_less, usual.novelty["audio"].num_less, none.novelty) == (3, 0, {})
    assert [all(task.abstained for task in clip.tasks.values()) for clip in (far, usual, none)] == [True, False, False]
    plain = judging.predict_vectors(vectors)
    assert not any(task.abstained for task in plain[0].tasks.values())
    assert {name: task.values for name, task in plain[0].tasks.items()} == {
        name: task.values for name, task in far.tasks.items()
    }
    with pytest.raises(InputError, match="does not store how unlike its training clips a recording is"):
        predictor.predict_vectors(vectors, novelty=1.0)
    with pytest.raises(InputError, match=r"a share of dev clips between 0 and 1, found 1\.5"):
        judging.predict_vectors(vectors, novelty=1.5)

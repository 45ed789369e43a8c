"""Prediction of recordings by a trained model: the functions of extraction and evaluation, in one object.

```python
from training.predict import Predictor

predictor = Predictor.from_pretrained("my-bundle")     # or Predictor.from_run("runs/demo/20260101-120000")
results = predictor.predict("talk.mp4", texts="Well, I am not sure.")
print(results[0].tasks["emotion"].values)
results.to_frame().to_csv("talk.csv")
```
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import pandas as pd
import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from numpy.typing import ArrayLike

from encoders.config import FeaturesConfig
from encoders.extraction.extract import extract
from encoders.extraction.workers import WarmEncoders
from encoders.writers.base import TextWriter
from mmpsr.explanation.explain import Explanation, explain
from training.bundle.files import FILES
from training.predict.clips import PredictionTable, VectorTable, joined_vectors, results_of
from training.predict.inputs import Defect, find_inputs
from training.predict.local_weights import hint_at_local_weights, with_local_weights
from training.predict.results import Results
from training.predict.windows import clips_of
from training.runs.trained import TrainedModel

__all__ = ["Predictor", "StageClock"]

_CHUNK = 4  # clips stored together: of what this process encodes, a kill costs no more
_PIECE = 32  # clips explained at a time: memory is that of 2^M times as many
Inputs = str | Path | Sequence[str | Path] | pd.DataFrame


class StageClock:
    """How long each stage took.

    Args:
        on_stage: told the name of each stage as it begins.

    Example:
        >>> clock = StageClock(print)
        >>> clock.enter("inputs")
        inputs
        >>> list(clock.leave())
        ['inputs']
    """

    def __init__(self, on_stage: Callable[[str], None] | None = None) -> None:
        self.on_stage = on_stage
        self.seconds: dict[str, float] = {}
        self.stage, self.began = "", time.perf_counter()

    def enter(self, stage: str) -> None:
        """Begin a stage, which ends the one before."""
        self.leave()
        self.stage = stage
        if self.on_stage is not None:
            self.on_stage(stage)

    def leave(self) -> dict[str, float]:
        """End the stage; seconds of all so far."""
        now = time.perf_counter()
        if self.stage:
            self.seconds[self.stage] = now - self.began
        self.began = now
        return self.seconds


class Predictor(ModelHubMixin):
    """A trained model that takes recordings.

    Encoders, and models that write texts, are loaded when first needed and stay; predictions from several threads take
    turns. A context manager, which lets go of them; so does `close`.

    Args:
        trained: the model with its tasks, encoders and calibration.
        num_processes: worker processes that decode and encode; 0, for a few clips at a time, does it in this process.

    Example:
        >>> predictor = Predictor.from_run("runs/demo/20260101-120000")         # doctest: +SKIP
        >>> predictor.predict(["a.mp4", "b.mp4"]).to_frame()                    # doctest: +SKIP
    """

    _hub_mixin_config: dict[str, Any] | None = {}  # noqa: RUF012  else the mixin copies the model into one

    def __init__(self, trained: TrainedModel, num_processes: int = 0) -> None:
        workers = {"num_workers": num_processes} if num_processes else {"chunk_size": _CHUNK}
        self._hub_mixin_config = None  # a bundle needs no config.json beside its own content
        self.trained = trained
        self.features: FeaturesConfig = trained.features.model_copy(update=workers)
        self._run: Path | None = None
        self._num_processes = num_processes
        self._warm: WarmEncoders | None = None
        self._writers: dict[str, TextWriter] = {}
        self._lock = RLock()

    @classmethod
    def from_run(
        cls, path: str | Path, num_processes: int = 0, device: str = "cpu",
        weights: Mapping[str, str | Path] | None = None, trust_remote_code: Collection[str] = (),
    ) -> Predictor:  # fmt: skip
        """The model of a finished run.

        Args:
            path: run directory.
            num_processes: see the class.
            device: of the model.
            weights: local copies of encoders' weights in place of the run's, see `training.predict.local_weights`.
            trust_remote_code: encoders whose own code may run, besides those of the run's configuration.

        Raises:
            RunError: there is no finished run.
            ConfigError: the model has no such encoder.
            BundleError: the run's encoders are not those installed here.
        """
        trained = with_local_weights(TrainedModel.read(Path(path), device), weights or {}, trust_remote_code)
        predictor = cls(_checked(trained), num_processes)
        predictor._run = Path(path)
        return predictor

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Predictor:  # type: ignore[override]
        """The model of a bundle.

        Args:
            pretrained_model_name_or_path: folder, or id on the hub.
            options: `num_processes`, `device` and `allow_custom_encoders` (see `training.bundle.bundle.read_bundle`);
                `weights`, folders of local weights by encoder, and `trust_remote_code`, names of encoders whose own
                code may run (see `training.predict.local_weights`); of the hub `revision`, `cache_dir`,
                `force_download`, `local_files_only` and `token`.

        Raises:
            ConfigError: the model has no such encoder.
            BundleError: it cannot be read, asks to run code, or its encoders are not those installed here.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            return cls._from_pretrained(model_id=str(pretrained_model_name_or_path), **options)
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, num_processes: int = 0, device: str = "cpu", allow_custom_encoders: bool = False,
        weights: Mapping[str, str | Path] | None = None, trust_remote_code: Collection[str] = (), **options: Any,
    ) -> Predictor:  # fmt: skip
        from training.bundle.bundle import read_bundle

        folder = Path(model_id)
        if not folder.is_dir():
            folder = Path(snapshot_download(model_id, allow_patterns=list(FILES), **options))
        trained = with_local_weights(
            read_bundle(folder, device, allow_custom_encoders), weights or {}, trust_remote_code
        )
        return cls(_checked(trained), num_processes)

    def _save_pretrained(self, save_directory: Path) -> None:
        from training.bundle.bundle import BundledModel, copy_bundle, write_bundle

        if isinstance(self.trained, BundledModel):
            copy_bundle(self.trained.folder, save_directory, force=True)
        elif self._run is not None:
            write_bundle(self._run, save_directory, force=True)
        else:
            raise ValueError("only a predictor that was read from a run or a bundle can be saved")

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of encoders and writers of texts; a later prediction loads them again."""
        with self._lock:
            if self._warm is not None:
                self._warm.close()
            self._warm = None
            self._writers.clear()

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model takes, in its order."""
        return self.trained.modalities

    def predict(
        self,
        inputs: Inputs,
        texts: str | Sequence[str | None] | None = None,
        *,
        confidence: float = 0.0,
        window: float | None = None,
        hop: float | None = None,
        transcripts: str | Path | None = None,
        store: str | Path | None = None,
        on_stage: Callable[[str], None] | None = None,
    ) -> Results:
        """Predict recordings, or the clips of a table.

        Args:
            inputs: path, or paths, of files, folders, globs or CSV files (see `training.predict.inputs.find_inputs`);
                or a clip table with the columns of `corpora.clips` that are known (`clip_id` and `media` at least).
            texts: what is said, one text or one per recording; without, transcripts beside the files are used.
            confidence: in [0, 1], below which a decision counts as abstained.
            window: seconds of the windows that recordings are cut into; None for whole recordings.
            hop: seconds from one window's start to the next; None is `window`.
            transcripts: folder with files named like the recordings.
            store: feature store to keep vectors in, so that the same clip is not encoded again; None is a temporary
                one.
            on_stage: told the name of each stage as it begins: `inputs`, `texts`, `features`, `prediction`.

        Returns:
            A result per clip that has at least one modality, and a defect per clip that has none.

        Raises:
            InputError: the inputs cannot be understood.
            CorpusError: a clip table has an id twice or a span that cannot be.
            ExtractionError: an encoder cannot be loaded.
        """
        clock = StageClock(on_stage)
        _require_probability(confidence)
        clock.enter("inputs")
        recordings = _read(inputs, texts, window, hop, transcripts)
        with tempfile.TemporaryDirectory(prefix="mmpsr-") if store is None else nullcontext(str(store)) as place:
            features = self.features.model_copy(update={"store": str(place)})
            table = PredictionTable.of(recordings.clips, self.trained)
            with self._lock:
                clock.enter("texts")
                table = table.with_texts(features, self._writers)
                clock.enter("features")
                ledger = self._extract(table.clips, features)
            clock.enter("prediction")
            results = self._results(table.with_vectors(features, self.trained, ledger), confidence)
        return replace(
            results,
            defects=recordings.defects + results.defects,
            notes=(*recordings.notes, *results.notes),
            seconds=clock.leave(),
        )

    def predict_vectors(
        self,
        vectors: Mapping[str, ArrayLike],
        presence: Mapping[str, ArrayLike] | None = None,
        *,
        confidence: float = 0.0,
    ) -> Results:
        """Predict from vectors that the model's encoders have made before.

        Args:
            vectors: by modality float `[N, D_m]`; modalities left out are absent.
            presence: by modality bool `[N]`; of those left out, rows without NaN are present.
            confidence: see `predict`.

        Raises:
            ValueError: a modality or a width is not the model's, numbers of rows differ, or a present row is not
                finite.

        Example:
            >>> text = np.zeros((2, 768))                                       # doctest: +SKIP
            >>> predictor.predict_vectors({"text": text})[1].absent              # doctest: +SKIP
            {'video': 'not given', 'audio': 'not given', 'behavior': 'not given'}
        """
        _require_probability(confidence)
        return self._results(joined_vectors(self.trained, vectors, presence or {}), confidence)

    def explain(self, results: Results) -> list[Explanation]:
        """Why clips are predicted what they are, see `mmpsr.explanation.explain`; in the order of `results.clips`.

        Args:
            results: of this predictor.

        Raises:
            ValueError: the model has more than 10 modalities.
            ArithmeticError: contributions do not add up, because a prediction is not finite.

        Example:
            >>> predictor.explain(results)[0].tasks["emotion"].shapley["text"]    # doctest: +SKIP
        """
        found: list[Explanation] = []
        trained, joined = self.trained, results.joined
        for first in range(0, len(results), _PIECE):
            rows = torch.arange(first, min(first + _PIECE, len(results)), device=joined.presence.device)
            with self._lock:  # the model's parts are watched meanwhile
                found += explain(trained.model, joined.batch(rows), trained.calibration)
        return found

    def _extract(self, clips: pd.DataFrame, features: FeaturesConfig) -> pd.DataFrame:
        """Make the vectors that the store lacks; returns the ledger of those that cannot be made."""
        self._warm = self._warm or WarmEncoders(features, self._num_processes)
        try:
            return extract(clips, features, show_progress=False, warm=self._warm).ledger
        except BaseException:  # a worker that died, or is in the midst of what nobody waits for any more
            self._warm.close(at_once=True)
            self._warm = None
            raise

    def _results(self, table: VectorTable, confidence: float) -> Results:
        with self._lock:  # whoever explains watches the model's parts
            return results_of(self.trained, table, confidence)


class _Recordings(NamedTuple):
    """Clips that were asked for, what of the inputs could not be used, and sentences on it."""

    clips: pd.DataFrame
    defects: list[Defect]
    notes: Sequence[str]


def _read(
    inputs: Inputs,
    texts: str | Sequence[str | None] | None,
    window: float | None,
    hop: float | None,
    transcripts: str | Path | None,
) -> _Recordings:
    """Find recordings and cut them into windows, or take a clip table as it is."""
    if isinstance(inputs, pd.DataFrame):
        if texts is not None or window is not None or transcripts is not None:
            raise ValueError("a clip table has texts and spans of its own; give those, or name files")
        return _Recordings(inputs, [], [])
    names = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    given = [texts] if isinstance(texts, str) else texts
    folder = None if transcripts is None else Path(transcripts)
    found = find_inputs(names, texts=given, transcripts=folder)
    return _Recordings(clips_of(found.recordings, window, hop), found.defects, found.notes)


def _checked(trained: TrainedModel) -> TrainedModel:
    """The model, unless its encoders are not those installed."""
    from training.bundle.bundle import check_encoders
    from training.bundle.files import BundleError

    try:
        check_encoders(trained)
    except BundleError as error:
        raise BundleError(f"{error}{hint_at_local_weights(trained.features)}") from None
    return trained


def _require_probability(confidence: float) -> None:
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"a confidence is a probability between 0 and 1, found {confidence}")

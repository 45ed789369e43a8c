"""Prediction of recordings by a trained model: the functions of extraction and evaluation, in one object.

```python
from mmpsr import Predictor

predictor = Predictor.from_pretrained("my-bundle")     # or Predictor.from_run("runs/demo/20260101-120000")
results = predictor.predict("talk.mp4", texts="Well, I am not sure.")
print(results[0].tasks["emotion"].values)
results.to_frame().to_csv("talk.csv")
```
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike

from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.extraction.extract import extract
from mmpsr.calibration.conformal import COVERAGE, HIGHEST, LOWEST, is_level
from mmpsr.config import base_of, validate
from mmpsr.executors.base import LOCAL
from mmpsr.explanation.explain import Explanation
from mmpsr.prototypes.texts import Wording
from training.bundle.bundle import BundledModel, copy_bundle, read_bundle, usable_here, write_bundle
from training.bundle.files import CONTENT
from training.bundle.hub import HUB_ID, Pretrained, bundle_folder
from training.class_texts.zero_shot import read_zero_shot, with_text_encoder
from training.predict.clips import PredictionTable, VectorTable, joined_vectors, results_of
from training.predict.explaining import explain_by, explain_clips, pieces
from training.predict.inputs import Defect, InputError, MissingInputError, find_inputs
from training.predict.results import Results
from training.predict.warm import KeepsLoaded
from training.predict.windows import clips_of
from training.runs.directory import runs_below
from training.runs.newest import newest_run
from training.runs.trained import TrainedModel

__all__ = ["Predictor", "StageClock", "is_model", "open_predictor"]

_CHUNK = 4  # clips stored together: of what this process encodes, a kill costs no more
Inputs = str | Path | Sequence[str | Path] | pd.DataFrame


class StageClock:
    """How long each stage took, over all its turns.

    Args:
        on_stage: told the name of each stage as it begins, and what `enter` was given beside it.

    Example:
        >>> clock = StageClock(print)
        >>> clock.enter("inputs")
        inputs
        >>> list(clock.leave())
        ['inputs']
    """

    def __init__(self, on_stage: Callable[..., None] | None = None) -> None:
        self.on_stage = on_stage
        self.seconds: dict[str, float] = {}
        self.stage, self.began = "", time.perf_counter()

    def enter(self, stage: str, *progress: str) -> None:
        """Begin a stage, which ends the one before."""
        self.leave()
        self.stage = stage
        if self.on_stage is not None:
            self.on_stage(stage, *progress)

    def leave(self) -> dict[str, float]:
        """End the stage; returns the seconds of all so far."""
        now = time.perf_counter()
        if self.stage:
            self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self.began
        self.began = now
        return self.seconds


class Predictor(KeepsLoaded, Pretrained):
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

    def __init__(self, trained: TrainedModel, num_processes: int = 0) -> None:
        super().__init__(num_processes)
        workers = {"num_workers": num_processes} if num_processes else {"chunk_size": _CHUNK}
        self.trained = trained
        self.features: FeaturesConfig = trained.features.model_copy(update=workers)
        self._run: Path | None = None
        self._heard = ""  # said of words that the model's own training never saw the like of
        self._name = uuid.uuid4().hex

    @classmethod
    def from_run(
        cls, path: str | Path, num_processes: int = 0, device: str = "cpu",
        weights: Mapping[str, str | Path] | None = None, trust_remote_code: Collection[str] = (),
        transcribe: bool = False,
    ) -> Predictor:  # fmt: skip
        """Open the model of a finished run.

        Args:
            path: run directory, or the folder of runs of a configuration, whose newest finished one is opened.
            num_processes: see the class.
            device: of the model.
            weights: local copies of encoders' weights in place of the run's; see `training.bundle.bundle.usable_here`.
            trust_remote_code: encoders whose own code may run, besides those of the run's configuration.
            transcribe: let a speech model (`encoders.config.TranscriberConfig`, of which `weights` may name a local
                copy) write what is said where nobody gives it, also where the run had none; it is noted then.

        Raises:
            RunError: there is no finished run.
            InputError: words are to be written, and the model takes none.
            ConfigError: the model has no such encoder.
            BundleError: the run's encoders are not those installed here.
        """
        run = newest_run(path)
        predictor = cls._usable(TrainedModel.read(run, device), num_processes, weights, trust_remote_code, transcribe)
        predictor._run = run
        return predictor

    @classmethod
    def _usable(
        cls, trained: TrainedModel, num_processes: int, weights: Mapping[str, str | Path] | None,
        trust_remote_code: Collection[str], transcribe: bool,
    ) -> Predictor:  # fmt: skip
        heard = ""
        if transcribe and not any(base_of(name) == "text" for name in trained.model.modalities):
            raise InputError(
                f"the model takes no words, but {', '.join(trained.model.modalities)}; leave --transcribe out"
            )
        if transcribe and trained.features.transcriber is None:
            writer = TranscriberConfig()
            trained = replace(trained, features=trained.features.model_copy(update={"transcriber": writer}))
            heard = (
                f"words that nobody gave are as {writer.model} heard them; the model was trained on transcripts that "
                "its corpora give, and its figures are of those"
            )
        predictor = cls(usable_here(trained, weights or {}, trust_remote_code), num_processes)
        predictor._heard = heard
        return predictor

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Predictor:
        """Open the model of a bundle.

        Args:
            pretrained_model_name_or_path: folder, or id on the hub.
            options: `num_processes`, `device` and `allow_custom_encoders` (see `training.bundle.bundle.read_bundle`);
                `weights`, folders of local weights by encoder, and `trust_remote_code`, names of encoders whose own
                code may run (see `training.bundle.bundle.usable_here`); `transcribe` (see `from_run`); of the hub
                `revision`, `cache_dir`, `force_download`, `local_files_only` and `token`.

        Raises:
            InputError: words are to be written, and the model takes none.
            ConfigError: the model has no such encoder.
            BundleError: it cannot be read, asks to run code, or its encoders are not those installed here.
        """
        return cls._from_pretrained(str(pretrained_model_name_or_path), **options)

    @classmethod
    def _from_pretrained(
        cls, model_id: str, *, num_processes: int = 0, device: str = "cpu", allow_custom_encoders: bool = False,
        weights: Mapping[str, str | Path] | None = None, trust_remote_code: Collection[str] = (),
        transcribe: bool = False, **options: Any,
    ) -> Predictor:  # fmt: skip
        bundled = read_bundle(bundle_folder(model_id, **options), device, allow_custom_encoders)
        return cls._usable(bundled, num_processes, weights, trust_remote_code, transcribe)

    @classmethod
    def from_task_texts(
        cls, task_texts: str | Sequence[str], encoder: str | None = None, num_processes: int = 0,
        features: FeaturesConfig | None = None, wordings: Sequence[Wording] | None = None,
    ) -> Predictor:  # fmt: skip
        """Open a model of class texts alone, which needs no run: of what is said and of described behaviour.

        Args:
            task_texts: names of texts that ship, or TOML files, see `docs/task_texts.md`.
            encoder: id of the text encoder; that of `features`, which is MiniLM by default, where left out.
            num_processes: see the class.
            features: local weights, device, and what writes transcripts.
            wordings: in place of the usual ones.

        Raises:
            ConfigError: texts or encoder cannot be used.
            ExtractionError: the encoder cannot be loaded.

        Example:
            >>> predictor = Predictor.from_task_texts("emotion")                    # doctest: +SKIP
        """
        sources = [task_texts] if isinstance(task_texts, str) else list(task_texts)
        own = with_text_encoder(features or FeaturesConfig(), encoder, ("text", "behavior"))
        zero_shot = read_zero_shot(sources, own, wordings=wordings)
        return cls(TrainedModel.of_texts(zero_shot, features=own), num_processes)

    def add_task_texts(self, task_texts: str | Sequence[str], wordings: Sequence[Wording] | None = None) -> None:
        """Predict tasks by class texts beside the model's own, from the vectors of its text encoder.

        Args:
            task_texts: see `from_task_texts`; a task that the model has already is called `zero-shot-<name>`.
            wordings: in place of the usual ones.

        Raises:
            ConfigError: texts cannot be used, or the model reads no text.
            ExtractionError: the encoder cannot be loaded.
        """
        sources = [task_texts] if isinstance(task_texts, str) else list(task_texts)
        zero_shot = read_zero_shot(sources, self.features, taken=tuple(self.trained.tasks), wordings=wordings)
        self.trained = self.trained.with_texts(zero_shot)

    @property
    def _folder(self) -> Path | None:
        """Folder of the run or bundle that the model was read from."""
        return Path(self.trained.folder) if isinstance(self.trained, BundledModel) else self._run

    def _save_pretrained(self, save_directory: Path) -> None:
        if isinstance(self.trained, BundledModel):
            copy_bundle(self.trained.folder, save_directory, force=True)
        elif self._run is not None:
            write_bundle(self._run, save_directory, force=True)
        else:
            raise ValueError("only a predictor that was read from a run or a bundle can be saved")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of what the model takes, in its order."""
        return self.trained.model.modalities

    def predict(
        self,
        inputs: Inputs,
        texts: str | Sequence[str | None] | None = None,
        *,
        confidence: float = 0.0,
        novelty: float | None = None,
        coverage: float = COVERAGE,
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
            novelty: in [0, 1], share of dev clips less out of line, from which on a clip's predictions count as
                abstained; None is never, see `mmpsr.calibration.novelty`.
            coverage: in [0.5, 0.99], chance with which sets and intervals shall hold the truth; whether it is promised,
                says `trained.promise`, see `mmpsr.calibration.conformal`.
            window: seconds of the windows that recordings are cut into; None for whole recordings.
            hop: seconds from one window's start to the next; None is `window`.
            transcripts: folder with files named like the recordings.
            store: feature store to keep vectors in, so that the same clip is not encoded again; None is a temporary
                one.
            on_stage: told the name of each stage as it begins: `inputs`, `texts`, `features`, `prediction`.

        Returns:
            A result per clip that has at least one modality, and a defect per clip that has none.

        Raises:
            MissingInputError: a recording that is named is not there; one of a table is a defect instead.
            InputError: the inputs cannot be understood.
            CorpusError: a clip table has an id twice or a span that cannot be.
            ExtractionError: an encoder cannot be loaded.
        """
        clock = StageClock(on_stage)
        _require_probability(confidence)
        _require_novelty(novelty, self.trained)
        _require_coverage(coverage)
        clock.enter("inputs")
        clips, defects, notes = _read(inputs, texts, window, hop, transcripts)
        with tempfile.TemporaryDirectory(prefix="mmpsr-") if store is None else nullcontext(str(store)) as place:
            features = self.features.model_copy(update={"store": str(place)})
            table = PredictionTable.of(clips, self.trained)
            with self._lock:
                clock.enter("texts")
                table = table.with_texts(features, self._writers)
                if self._heard and table.clips["text_source"].eq("written").any():
                    notes = [*notes, self._heard]
                clock.enter("features")
                ledger = self._extract(table.clips, features)
            clock.enter("prediction")
            results = self._results(table.with_vectors(features, self.trained, ledger), confidence, novelty, coverage)
        return replace(
            results, defects=defects + results.defects, notes=(*notes, *results.notes), seconds=clock.leave()
        )

    def predict_vectors(
        self,
        vectors: Mapping[str, ArrayLike],
        presence: Mapping[str, ArrayLike] | None = None,
        *,
        confidence: float = 0.0,
        novelty: float | None = None,
        coverage: float = COVERAGE,
    ) -> Results:
        """Predict from vectors that the model's encoders have made before.

        Args:
            vectors: by modality float `[N, D_m]`; modalities left out are absent.
            presence: by modality bool `[N]`; of those left out, rows without NaN are present.
            confidence: see `predict`.
            novelty: see `predict`.
            coverage: see `predict`.

        Raises:
            ValueError: a modality or a width is not the model's, numbers of rows differ, or a present row is not
                finite.

        Example:
            >>> text = np.zeros((2, 768))                                       # doctest: +SKIP
            >>> predictor.predict_vectors({"text": text})[1].absent              # doctest: +SKIP
            {'video': 'not given', 'audio': 'not given', 'behavior': 'not given'}
        """
        _require_probability(confidence)
        _require_novelty(novelty, self.trained)
        _require_coverage(coverage)
        return self._results(joined_vectors(self.trained, vectors, presence or {}), confidence, novelty, coverage)

    def explain(self, results: Results) -> list[Explanation]:
        """Explain why clips are predicted what they are, see `mmpsr.explanation.explain`; in the order of the clips.

        Args:
            results: of this predictor.

        Raises:
            ValueError: the model has more than 10 modalities.
            ArithmeticError: contributions do not add up, because a prediction is not finite.

        Example:
            >>> predictor.explain(results)[0].tasks["emotion"].shapley["text"]    # doctest: +SKIP
        """
        folder = (
            self._folder if self._works_away and self.trained.zero_shot is None else None
        )  # class texts are in none
        with self._lock:  # the model's parts are watched meanwhile
            if folder is None:
                return [each for batch in pieces(results.joined) for each in explain_clips(self.trained, batch)]
            with self._encoders(self.features) as warm:
                batches = list(pieces(results.joined.to("cpu"), warm.engine.num_workers))
                return explain_by(warm.engine, folder, self._name, self.trained, batches)

    @property
    def num_workers(self) -> int:
        """Processes that decode and encode at present: those of the executor, or of this machine, at least one."""
        if not self._works_away:
            return max(1, self.num_processes)
        with self._lock, self._encoders(self.features) as warm:
            return warm.engine.num_workers

    def use_executor(self, name: str) -> None:
        """Have an executor decode, encode and explain, see `mmpsr.executors`; what it gives is the same to 1e-6.

        Args:
            name: `local`, `dask://host:port` or `package.module:factory`.

        Raises:
            ConfigError: it is none of these.
        """
        executor = validate(FeaturesConfig, {"executor": name}, "executor").executor
        self.close()
        self.features = self.features.model_copy(update={"executor": executor})

    @property
    def _works_away(self) -> bool:
        return self.features.executor != LOCAL

    def _extract(self, clips: pd.DataFrame, features: FeaturesConfig) -> pd.DataFrame:
        """Make the vectors that the store lacks; returns the ledger of those that cannot be made."""
        with self._encoders(features) as warm:
            return extract(clips, features, show_progress=False, warm=warm).ledger

    def _results(self, table: VectorTable, confidence: float, novelty: float | None, coverage: float) -> Results:
        with self._lock:  # whoever explains watches the model's parts
            return results_of(self.trained, table, confidence, novelty, coverage)


def _read(
    inputs: Inputs,
    texts: str | Sequence[str | None] | None,
    window: float | None,
    hop: float | None,
    transcripts: str | Path | None,
) -> tuple[pd.DataFrame, list[Defect], list[str]]:
    """Find recordings and cut them into windows, or take a clip table as it is.

    Returns:
        Clips that were asked for, what of the inputs could not be used, and sentences on it.
    """
    if isinstance(inputs, pd.DataFrame):
        if texts is not None or window is not None or transcripts is not None:
            raise ValueError("a clip table has texts and spans of its own; give those, or name files")
        return inputs, [], []
    names = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    given = [texts] if isinstance(texts, str) else texts
    folder = None if transcripts is None else Path(transcripts)
    missing = [str(name) for name in names if not Path(name).exists() and not any(sign in str(name) for sign in "*?[")]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise MissingInputError(f"there is no recording {', '.join(missing[:3])}{more}; name files, folders or globs")
    read = find_inputs(names, texts=given, transcripts=folder)
    return clips_of(read.recordings, window, hop), read.defects, read.notes


def _require_probability(confidence: float) -> None:
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"a confidence is a probability between 0 and 1, found {confidence}")


def _require_novelty(novelty: float | None, trained: TrainedModel) -> None:
    if novelty is None:
        return
    if not 0.0 <= novelty <= 1.0:
        raise InputError(f"a novelty is a share of dev clips between 0 and 1, found {novelty:g}")
    if not trained.novelty.fits:
        raise InputError(
            "the model's run or bundle does not store how unlike its training clips a recording is, which novelty "
            "asks for; train again, and bundle the new run, or leave it out"
        )


def _require_coverage(coverage: float) -> None:
    if not is_level(coverage):
        raise InputError(f"a coverage is a chance from {LOWEST:g} to {HIGHEST:g}, found {coverage:g}")


def is_model(name: str) -> bool:
    """Tell whether a name is of a run or a bundle on the disk, or can be of one on the hub, and not of recordings."""
    path = Path(name)
    if path.is_dir():
        return any((path / file).exists() for file in (CONTENT, "config.json"))
    return not path.exists() and not path.suffix and HUB_ID.fullmatch(name) is not None


def open_predictor(
    model: str,
    num_processes: int = 0,
    weights: Mapping[str, str] | None = None,
    trust_remote_code: Sequence[str] = (),
    allow_custom_encoders: bool = False,
    transcribe: bool = False,
) -> Predictor:
    """Open the predictor of a run directory, a bundle's folder, or a bundle's id on the hub.

    Args:
        model: folder or id.
        num_processes: see `Predictor`.
        weights: folders of local weights by encoder.
        trust_remote_code: encoders whose own code may run.
        allow_custom_encoders: import a bundle's encoders that are classes of one's own; a run's always are.
        transcribe: see `Predictor.from_run`.

    Raises:
        InputError: there is no such folder, and it cannot be an id; words are to be written, and the model takes none.
    """
    path = Path(model)
    own: dict[str, Any] = {"weights": weights, "trust_remote_code": trust_remote_code, "transcribe": transcribe}
    if path.is_dir() and not (path / CONTENT).exists():
        return Predictor.from_run(path, num_processes, **own)
    if path.is_dir() or (model.count("/") == 1 and not model.startswith((".", "/", "~"))):
        own["allow_custom_encoders"] = allow_custom_encoders
        return Predictor.from_pretrained(model, num_processes=num_processes, **own)
    if path.is_file():
        raise MissingInputError(f"{model} is a file, no model; before the recordings, name a finished run or a bundle")
    raise MissingInputError(f"{model} is no folder; name a finished run or a bundle{runs_below(path)}")

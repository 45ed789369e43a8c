"""The commands `mmpsr predict` and `mmpsr app`: recordings in; probabilities, scores and reasons out.

Beside an output file lies a folder `<output>.work` with the vectors and the finished rows: killed and started again,
the command does only what is left.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmpsr.errors import Interrupted, UserError
from mmpsr.extras import require_extra
from training.commands.common import (
    EncoderOption,
    Remarks,
    TaskTextsOption,
    TranscribeOption,
    WeightsOption,
    announce,
    error_console,
    guarded,
    run_of,
    without_collection,
)
from training.drafting.completion import complete_inputs, complete_runs

if TYPE_CHECKING:
    import pandas as pd

    from training.predict.document import FinishedRows
    from training.predict.inputs import Inputs
    from training.predict.predictor import Predictor

__all__ = ["predict", "serve_app"]

Format = Literal["json", "csv", "parquet"]
BATCH = 16
"""Most clips predicted at a time, and the most that a kill can cost."""
TOLD = 4.0
"""Seconds that the clips predicted at a time shall take, after which it is told how far it is."""
FEW = 32
"""Up to this many clips are encoded in this process: starting others would take longer."""
SHOWN = 20
"""Recordings printed where a file holds all of them."""


@guarded("stopped")
def predict(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN_OR_BUNDLE INPUTS...",
            help="Finished run, bundle, or a bundle's hub id, which --task-texts can do without; files, folders, globs "
            "or tables.",
            autocompletion=complete_inputs,
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="What is said in the one recording, or a text without any.")
    ] = None,
    task_texts: TaskTextsOption = None,
    encoder: EncoderOption = None,
    transcribe: TranscribeOption = False,
    transcripts: Annotated[
        Path | None, typer.Option("--transcripts", help="Folder of .srt, .vtt or .txt files named like the recordings.")
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option("--separator", help="Of tables: a character, comma, semicolon, tab or pipe."),
    ] = None,
    quoting: Annotated[
        bool | None,
        typer.Option("--quoting/--no-quoting", help="Whether quotation marks in tables quote cells."),
    ] = None,
    window: Annotated[float | None, typer.Option("--window", help="Cut recordings into windows of S seconds.")] = None,
    hop: Annotated[
        float | None, typer.Option("--hop", help="Seconds from window to window; else the window's.")
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Decide only where at least this sure (0-1).")
    ] = 0.0,
    novelty: Annotated[
        float | None,
        typer.Option("--novelty", help="Decide nothing where more unlike training than this share of dev clips (0-1)."),
    ] = None,
    coverage: Annotated[
        float, typer.Option("--coverage", help="How often sets and intervals shall hold the truth (0.5-0.99).")
    ] = 0.9,
    format_: Annotated[Format | None, typer.Option("--format", help="Else the output's suffix says it.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; a repeated command goes on.")
    ] = None,
    cards: Annotated[Path | None, typer.Option("--cards", help="Folder for one HTML page a recording.")] = None,
    measures: Annotated[
        bool, typer.Option("--measures", help="Also draw face, gaze, head and voice over time in the cards.")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Print every window of a recording, and not what they are in sum.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also say what each modality adds.")] = False,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor", metavar="NAME", help="Who decodes, encodes and explains: dask://host:port or module:factory."
        ),
    ] = None,
    weights: WeightsOption = None,
    trust_remote_code: Annotated[
        list[str] | None,
        typer.Option("--trust-remote-code", metavar="ENCODER", help="Let its weights' own code run; repeatable."),
    ] = None,
    allow_custom_encoders: Annotated[
        bool,
        typer.Option("--allow-custom-encoders", help="Import a bundle's encoders that are classes of one's own."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say what is lost alone; print what no file has alone.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more, as OUTPUT.work/predict.log has it anyway.")
    ] = False,
) -> int:
    """Predict all tasks for recordings; exit status 1 where none could be predicted."""
    require_extra("media")
    remarks = Remarks(quiet, verbose)
    names = [_named(names[0], remarks.info), *names[1:]] if names else []
    remarks.info(f"reading {' '.join(names or task_texts or ())}")
    from mmpsr.calibration.conformal import COVERAGE, HIGHEST, LOWEST, is_level
    from training.predict.inputs import InputError, Inputs, find_inputs
    from training.predict.windows import clip_of_text, clips_of
    from training.runs.directory import is_run_in_time

    try:
        model, inputs = _model_of(names, task_texts or ())
        if not inputs and text is None:
            if model is not None and Path(model).is_file():
                raise InputError(f"{model} is a file, no model; name a finished run or a bundle before it")
            raise InputError("there is nothing to predict; name files, folders, globs or tables, or give --text")
        format_ = _format(format_, output)
        if quiet and verbose:
            raise InputError("--quiet and --verbose are opposites; leave one out")
        if not 0.0 <= confidence <= 1.0:
            raise InputError(f"--confidence is a probability between 0 and 1, found {confidence:g}")
        if novelty is not None and not 0.0 <= novelty <= 1.0:
            raise InputError(f"--novelty is a share of dev clips between 0 and 1, found {novelty:g}")
        if measures and cards is None:
            raise InputError("--measures are drawn in the cards; name their folder with --cards, or leave it out")
        if not is_level(coverage):
            raise InputError(f"--coverage is a chance from {LOWEST:g} to {HIGHEST:g}, found {coverage:g}")
        given = None if text is None else [text]
        read = Inputs()
        if inputs:
            read = find_inputs(
                inputs, texts=given, transcripts=transcripts, separator=separator, quoting=quoting,
                words_alone=model is None,
            )  # fmt: skip
        if model is not None and is_run_in_time(model):
            others = {
                "--window": window is not None, "--hop": hop is not None, "--confidence": confidence > 0.0,
                "--novelty": novelty is not None, "--coverage": coverage != COVERAGE, "--explain": explain,
                "--executor": executor is not None,
                "--measures": measures, "--table": table, "--weights": bool(weights),
                "--trust-remote-code": bool(trust_remote_code), "--allow-custom-encoders": allow_custom_encoders,
                "--task-texts": bool(task_texts), "--encoder": encoder is not None, "--transcribe": transcribe,
                "--text without a recording": not inputs,
            }  # fmt: skip
            refused = [name for name, is_given in others.items() if is_given]
            from training.in_time.command import predict_command

            with _log_of(remarks, output):
                return predict_command(Path(model), read, output, format_, cards, refused, remarks, wanted=not quiet)
        is_alone = text is not None and not inputs
        clips = clip_of_text(text or "") if is_alone else clips_of(read.recordings, window, hop)
        remarks.info(f"{_counted(clips)}; opening {_name_of(model, task_texts or ())}")
        with without_collection():
            from training.predict.document import document_of, keys_of

        num_processes = 0 if len(clips) <= FEW else min(4, os.cpu_count() or 1)
        own, trusted = _weights(weights or ()), (trust_remote_code or (), allow_custom_encoders)
        opened = _open(model, task_texts or (), encoder, transcribe, num_processes, own, *trusted)
        place = tempfile.TemporaryDirectory(prefix="mmpsr-") if output is None else nullcontext(f"{output}.work")
        with _log_of(remarks, output):
            with opened as predictor:
                if executor is not None:
                    predictor.use_executor(executor)
                for line in _details(predictor, window, hop, confidence, novelty, coverage):
                    remarks.debug(line)
                place = (
                    tempfile.TemporaryDirectory(prefix="mmpsr-") if output is None else nullcontext(f"{output}.work")
                )
                with place as work:
                    finished, notes = _predict(
                        predictor, clips, Path(work), confidence, explain, novelty, coverage, remarks
                    )
                    drawn = _measure(read, Path(work), remarks) if measures else {}
                rows = [finished.rows[key] for key in keys_of(clips)]
                document = document_of(
                    rows, read.defects, predictor.trained, name=_name_of(model, task_texts or ()),
                    confidence=confidence, novelty=novelty, coverage=coverage,
                    window=window, hop=hop if hop is not None else window, notes=[*read.notes, *notes],
                )  # fmt: skip
            _write(document, format_, output, cards, drawn, table, remarks)
            if silent := _without_words(document):
                remarks.info(
                    f"without a transcript: {silent} of {len(document['recordings'])}; give one with --text, as a "
                    ".srt, .vtt or .txt file named like the recording beside it, their folder with --transcripts, or "
                    "have a speech model write it with --transcribe"
                )
    except KeyboardInterrupt:
        if output is None:
            raise
        raise Interrupted("stopped; what is finished is kept, and the same command goes on") from None
    return 0 if any(recording["clips"] for recording in document["recordings"]) else 1


@guarded()
def serve_app(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_OR_BUNDLE",
            help="Finished run, bundle, or a bundle's hub id, which --task-texts can do without.",
            autocompletion=complete_runs,
        ),
    ] = None,
    task_texts: TaskTextsOption = None,
    encoder: EncoderOption = None,
    transcribe: TranscribeOption = False,
    weights: WeightsOption = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of 127.0.0.1; 0 is any that is free.")] = 7860,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Longest video that is taken.")] = 120.0,
    max_megabytes: Annotated[float, typer.Option("--max-megabytes", help="Largest file that is taken.")] = 200.0,
) -> None:
    """Open a page, for this machine only, that analyses videos and says why."""
    for extra in ("app", "media", "report"):
        require_extra(extra)
    model = None if model is None else _named(model)
    if model is None and not task_texts:
        raise UserError(_NO_MODEL)
    announce(f"opening {_name_of(model, task_texts or ())}")
    from training.app.analysis import Limits
    from training.app.in_time import InTimeService
    from training.app.server import serve
    from training.app.service import Service
    from training.in_time.recordings import InTimePredictor
    from training.predict.inputs import InputError
    from training.runs.directory import is_run_in_time

    try:
        if max_seconds <= 0 or max_megabytes <= 0:
            raise InputError(f"limits are above 0, found {max_seconds:g} seconds and {max_megabytes:g} megabytes")
        limits, name = Limits(max_seconds, max_megabytes), _name_of(model, task_texts or ())

        def tell(address: str) -> None:
            typer.echo(f"{address} (this machine only; stop with Ctrl-C)")

        if model is not None and is_run_in_time(model):
            if task_texts:
                raise InputError("a model in time has no class texts beside it; leave --task-texts or the run out")
            if transcribe or weights:
                raise InputError(
                    "a model in time has words where its run had a transcriber, with the run's weights; leave "
                    f"{'--transcribe' if transcribe else '--weights'} out"
                )
            with InTimePredictor.from_run(model) as in_time:
                serve(lambda root: InTimeService(in_time, name, limits, root), port, tell)
            return
        with _open(model, task_texts or (), encoder, transcribe, weights=_weights(weights or ())) as predictor:
            serve(lambda root: Service(predictor, name, limits, root), port, tell)
    except KeyboardInterrupt:  # the way to stop it
        error_console().print("stopped; what was uploaded is removed")


_NO_MODEL = (
    "there is no model; name a finished run or a bundle, or give --task-texts, which needs none (--task-texts emotion)"
)


def _model_of(names: Sequence[str], task_texts: Sequence[str]) -> tuple[str | None, list[str]]:
    """Tell the run or bundle from the inputs; with class texts there need not be one."""
    from training.predict.inputs import InputError

    if names and not task_texts:
        return names[0], list(names[1:])
    from training.predict.predictor import is_model

    if names and is_model(names[0]):
        return names[0], list(names[1:])
    if not task_texts:
        raise InputError(_NO_MODEL)
    return None, list(names)


def _named(model: str, say: Callable[[str], object] = announce) -> str:
    """Name the run that a folder means; anything else, such as a hub's id, stays as it is written."""
    run = run_of(Path(model), say)
    return model if run == Path(model) else str(run)


def _counted(clips: pd.DataFrame) -> str:
    """Count recordings, and clips where they are cut.

    Example:
        >>> import pandas as pd
        >>> _counted(pd.DataFrame({"recording": ["a.mp4", "a.mp4", "b.mp4"]}))
        '2 recording(s), 3 clips'
    """
    num_recordings = clips["recording"].nunique()
    more = f", {len(clips)} clips" if len(clips) != num_recordings else ""
    return f"{num_recordings} recording(s){more}"


def _without_words(document: Mapping[str, Any]) -> int:
    """Count recordings whose words the model would take and nobody gave."""
    return sum(
        any(clip["absent"].get("text") == "no transcript" for clip in recording["clips"])
        for recording in document["recordings"]
    )


def _name_of(model: str | None, task_texts: Sequence[str]) -> str:
    return f"class texts of {', '.join(task_texts)}" if model is None else Path(model).name


def _open(
    model: str | None, task_texts: Sequence[str], encoder: str | None, transcribe: bool, num_processes: int = 0,
    weights: Mapping[str, str] | None = None, trust_remote_code: Sequence[str] = (), allow_custom: bool = False,
) -> Predictor:  # fmt: skip
    """Open a run or bundle, with class texts beside it where they are given, or class texts alone."""
    from encoders.config import FeaturesConfig, TranscriberConfig
    from mmpsr.config import validate
    from training.predict.inputs import InputError
    from training.predict.predictor import Predictor, open_predictor

    if model is None:
        settings = {
            "weights": weights or {}, "trust_remote_code": tuple(trust_remote_code),
            "transcriber": TranscriberConfig() if transcribe else None,
        }  # fmt: skip
        features = validate(FeaturesConfig, settings, "--weights, --trust-remote-code")
        return Predictor.from_task_texts(task_texts, encoder, num_processes, features)
    if encoder is not None:
        raise InputError("--encoder is of class texts without a run; leave it out")
    predictor = open_predictor(model, num_processes, weights, trust_remote_code, allow_custom, transcribe)
    if task_texts:
        predictor.add_task_texts(task_texts)
    return predictor


def _format(asked: Format | None, output: Path | None) -> Format | None:
    """Tell the output's format."""
    from training.predict.inputs import InputError

    if output is not None and output.is_dir():
        raise InputError(f"{output} is a folder; name a file that ends in .json, .csv or .parquet")
    if asked is not None or output is None:
        if asked == "parquet" and output is None:
            raise InputError("Parquet is not for reading on a terminal; name a file with -o")
        return asked
    formats: dict[str, Format] = {".json": "json", ".csv": "csv", ".parquet": "parquet"}
    if output.suffix.lower() not in formats:
        raise InputError(f"{output} ends in none of {', '.join(formats)}; name one of them or give --format")
    return formats[output.suffix.lower()]


def _weights(settings: Sequence[str]) -> dict[str, str]:
    """Read folders of local weights by encoder."""
    from training.predict.inputs import InputError

    weights = {}
    for setting in settings:
        encoder, _, folder = setting.partition("=")
        if not encoder or not folder:
            raise InputError(f"--weights {setting!r}: expected ENCODER=FOLDER, an encoder's id and its local copy")
        weights[encoder] = folder
    return weights


def _log_of(remarks: Remarks, output: Path | None) -> AbstractContextManager[None]:
    """Keep what is said beside the output, in the folder of what is finished; nowhere without an output."""
    from training.predict.output import LOG

    return nullcontext() if output is None else remarks.kept_in(Path(f"{output}.work") / LOG)


def _details(
    predictor: Predictor, window: float | None, hop: float | None, confidence: float, novelty: float | None,
    coverage: float,
) -> Iterator[str]:  # fmt: skip
    """Say by what is predicted."""
    from importlib.metadata import version

    yield f"mmpsr {version('mmpsr')}; tasks {', '.join(predictor.trained.tasks)}"
    settings = {
        "window": window, "hop": hop, "confidence": confidence or None, "novelty": novelty, "coverage": coverage,
    }  # fmt: skip
    yield "; ".join(f"{name} {value:g}" for name, value in settings.items() if value is not None)
    for modality, fingerprint in predictor.trained.fingerprints.items():
        yield f"{modality} by {fingerprint}"


def _predict(
    predictor: Predictor, clips: pd.DataFrame, work: Path, confidence: float, explain: bool, novelty: float | None,
    coverage: float, remarks: Remarks,
) -> tuple[FinishedRows, list[str]]:  # fmt: skip
    """Predict the clips that are not finished: one, for an estimate, then as many at a time as take few seconds."""
    from encoders.store.progress import ClipProgress
    from mmpsr.executors.base import LOCAL
    from training.predict.document import FinishedRows, keys_of
    from training.predict.explaining import PIECE
    from training.predict.output import PATIENCE

    finished = FinishedRows(work, predictor.trained, confidence, explain, novelty, coverage)
    keys, notes = keys_of(clips), dict[str, None]()
    left = [number for number, key in enumerate(keys) if key not in finished.rows]
    unit = "windows" if clips["recording"].nunique() < len(clips) else "clips"
    if left and len(left) < len(clips):
        remarks.info(f"{len(clips) - len(left)} of {len(clips)} {unit} are finished")
    num_done, num_lost, size = 0, 0, 1
    with ClipProgress(
        len(left), not remarks.is_quiet, "predictions", "without", unit, PATIENCE, at_once=True,
        console=remarks.console, tell=remarks.info,
    ) as report:  # fmt: skip
        while num_done < len(left):
            began = time.monotonic()
            batch = left[num_done : num_done + size]
            table = clips.iloc[batch]
            tell = partial(_tell_stage, remarks, len(left), unit) if not num_done else None
            results = predictor.predict(
                table, confidence=confidence, novelty=novelty, coverage=coverage, store=work / "features",
                on_stage=tell,
            )  # fmt: skip
            places = table[["recording", "start", "end"]].astype(object)
            order = places.where(places.notna(), None).itertuples(index=False, name=None)
            explanations = predictor.explain(results) if explain else None
            finished.add([keys[number] for number in batch], FinishedRows.of(results, order, explanations))
            notes |= dict.fromkeys(results.notes)
            num_done, num_lost = num_done + len(batch), num_lost + len(results.defects)
            report.update(len(left) - num_done, num_lost)
            took = time.monotonic() - began
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in results.seconds.items())
            remarks.debug(f"{num_done} of {len(left)} {unit} after {took:.1f} s: {stages}")
            quick = round(TOLD / max(took / len(batch), 1e-3))
            num_workers = predictor.num_workers
            most = BATCH if predictor.features.executor == LOCAL else PIECE * num_workers
            size = min(max(quick, num_workers), 4 * max(size, num_workers), most)
    return finished, list(notes)


def _measure(read: Inputs, work: Path, remarks: Remarks) -> dict[str, pd.DataFrame]:
    """Measure recordings over time, whole ones."""
    from training.predict.measures import SHOWN_RATE, measured_tables
    from training.predict.windows import clips_of

    tables = measured_tables(clips_of(read.recordings), work / "measures", rate=SHOWN_RATE, wanted=not remarks.is_quiet)
    return {str(table["recording"].iloc[0]): table for table in tables}


_STAGES = {"features": "making features", "prediction": "predicting"}


def _tell_stage(remarks: Remarks, num_clips: int, unit: str, stage: str) -> None:
    """Say what is done with the first clip, for which libraries and models are loaded."""
    if stage in _STAGES:
        remarks.info(f"{_STAGES[stage]} of the first of {num_clips} {unit}")


def _write(
    document: Mapping[str, Any], format_: Format | None, output: Path | None, cards: Path | None,
    measures: Mapping[str, pd.DataFrame], table: bool, remarks: Remarks,
) -> None:  # fmt: skip
    """Print, and write the output and the cards."""
    from training.predict.output import content_of, leave
    from training.predict.results import frame_of
    from training.predict.words import title_of
    from training.report.cards import write_cards

    clips = [
        {"id": recording["id"], "path": recording["path"], **clip}
        for recording in document["recordings"]
        for clip in recording["clips"]
    ]
    content = content_of(document, format_, lambda: frame_of(clips, document["defects"]))
    if output is None and format_ is not None:
        typer.echo(content, nl=False)
    elif output is None or not remarks.is_quiet:
        for line in _shown(document, output, table):
            typer.echo(line)
    leave(
        remarks, [f"{title_of(defect)}: no prediction: {defect['reason']}" for defect in document["defects"]],
        document["notes"], (len(clips), len(document["defects"])), output, content, cards,
        partial(write_cards, document, measures=measures),
    )  # fmt: skip


def _shown(document: Mapping[str, Any], output: Path | None, table: bool) -> Iterator[str]:
    """Put the document into lines: recordings in sum where they are windows, of others the first where a file has all.

    Args:
        document: the whole.
        output: file that has all of them, or None.
        table: every clip and window.
    """
    from training.predict.words import clip_lines, head_lines, summary_lines

    yield from head_lines(document)
    recordings = [recording for recording in document["recordings"] if recording["clips"]]
    most = len(recordings) if output is None or table else SHOWN
    for recording in recordings[:most]:
        if len(recording["clips"]) > 1 and not table:
            yield from summary_lines(recording, document)
            continue
        for clip in recording["clips"]:
            yield from clip_lines({"id": recording["id"], "path": recording["path"], **clip}, document)
    if len(recordings) > most:
        yield f"... and {len(recordings) - most} more in {output}"

"""Batches cut from sequences, and joined corpora that hold them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import training.data.joined
from corpora.clips import CorpusError
from encoders.config import FeaturesConfig
from encoders.sequences import Sequences
from tests.support import joined as small
from tests.support import sequenced
from training.data.joined import JoinedCorpora, join
from training.data.ragged import Ragged

LENGTHS = [3, 0, 1, 5, 2, 0]


@pytest.mark.parametrize("rows", [[0], [1], [3, 0, 3], [5, 4, 3, 2, 1, 0], []])
def test_batches_are_those_of_a_loop(rows: list[int]) -> None:
    sequences = sequenced.ragged(LENGTHS, 4)
    ragged = Ragged.of(sequences)
    values, mask = ragged.batch(torch.tensor(rows, dtype=torch.int64))
    longest = max([LENGTHS[row] for row in rows] + [1])
    assert values.shape == (len(rows), longest, 4)
    assert values.dtype == torch.float32
    assert mask.shape == (len(rows), longest)
    for place, row in enumerate(rows):
        start = sequences.offsets[row]
        for step in range(longest):
            there = step < LENGTHS[row]
            expected = sequences.values[start + step].astype(np.float32) if there else np.zeros(4)
            assert bool(mask[place, step]) == there
            np.testing.assert_array_equal(values[place, step].numpy(), expected)
    other = sequences.batch(rows)
    np.testing.assert_array_equal(values.numpy(), other[0])
    np.testing.assert_array_equal(mask.numpy(), other[1])


def test_off_the_cpu_all_batches_are_as_long_as_the_longest_clip() -> None:
    ragged = Ragged.of(sequenced.ragged(LENGTHS, 4)).to("meta")
    values, mask = ragged.batch(torch.zeros(2, dtype=torch.int64, device="meta"))
    assert (values.shape, mask.shape) == ((2, 5, 4), (2, 5))


def test_a_sample_is_evenly_spaced_over_the_rows_elements() -> None:
    values = np.arange(11, dtype=np.float16)[:, None]
    ragged = Ragged.of(Sequences(np.array(LENGTHS) > 0, np.cumsum([0, *LENGTHS]), values))
    rows = torch.tensor([4, 0, 1])  # elements 9, 10 and 0, 1, 2
    assert ragged.sample(rows).flatten().tolist() == [9.0, 10.0, 0.0, 1.0, 2.0]
    assert ragged.sample(rows, 2).flatten().tolist() == [9.0, 0.0, 2.0]


def test_batches_of_joined_corpora_have_sequences() -> None:
    clips = sequenced.joined(("text", "audio"))
    assert clips.sequence_widths == {"text": 3, "audio": 3}
    rows = torch.tensor([5, 2, 40])
    batch = clips.to("cpu").batch(rows)
    values, mask = batch.sequences["audio"]
    assert torch.equal(mask.any(dim=1), batch.presence[:, 1])
    assert torch.equal(values, clips.sequences["audio"].batch(rows)[0])
    torch.testing.assert_close(values[:, 0], batch.features["audio"][:, :3], rtol=1e-3, atol=1e-3)
    assert small.joined().batch(rows).sequences == {}


class Reader:
    """Stands for the store: vectors and sequences of the small corpora."""

    def __init__(self, clips: JoinedCorpora, sequences: dict[str, Sequences]) -> None:
        self.vectors = {
            name: (clips.presence[:, index].numpy(), each.numpy())
            for index, (name, each) in enumerate(clips.features.items())
        }
        self.sequences = sequences


@pytest.fixture
def joining(monkeypatch: pytest.MonkeyPatch) -> Callable[..., JoinedCorpora]:
    """Joins the small corpora with sequences of the given lengths, of the text."""
    clips = small.joined()
    table = clips.clips.copy()
    for task, spec in small.tasks().items():
        for index, name in enumerate(spec.classes):
            table[f"{task}.{name}"] = clips.labels[task][:, index].numpy()

    def joined_with(lengths: list[int], with_sequences: bool = True) -> JoinedCorpora:
        reader = Reader(clips, {"text": sequenced.ragged(lengths, 3)})
        monkeypatch.setattr(training.data.joined, "read_vectors", lambda *_: reader.vectors)
        monkeypatch.setattr(training.data.joined, "read_sequences", lambda *_: reader.sequences)
        return join(table, FeaturesConfig(sequences={"text": 8}), small.tasks(), small.config().corpora, with_sequences)

    return joined_with


def test_join_reads_sequences_when_asked(joining: Callable[..., JoinedCorpora]) -> None:
    num_clips = len(small.joined().clips)
    lengths = [2, 0, 3] * (num_clips // 3)
    assert joining(lengths).sequences["text"].lengths.tolist() == lengths
    assert joining(lengths, with_sequences=False).sequences == {}


def test_sequences_that_no_training_clip_has_are_an_error(joining: Callable[..., JoinedCorpora]) -> None:
    clips = small.joined()
    message = r"no training clip has a text sequence \(the ledger says why\); .* take text out of features\.sequences"
    for lengths in ([0] * len(clips.clips), clips.clips["split"].ne("train").astype(int).tolist()):
        with pytest.raises(CorpusError, match=message):
            joining(lengths)

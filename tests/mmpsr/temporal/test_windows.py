"""Windows: where they begin, that they hold every frame, and that merging them is a mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpsr.temporal import TemporalConfig, create_temporal
from mmpsr.temporal.windows import merge_windows, predict_clip, stack_windows, window_starts

SIZES = st.tuples(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60)).filter(lambda each: each[2] <= each[1])


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (701, 300, 200, [0, 200, 400, 401]), (744, 696, 48, [0, 48]), (300, 300, 200, [0]), (1, 300, 200, [0]),
        (301, 300, 200, [0, 1]), (5, 2, 2, [0, 2, 3]),
    ],
)  # fmt: skip
def test_starts(length: int, window: int, stride: int, expected: list[int]) -> None:
    assert window_starts(length, window, stride) == expected


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_every_frame_is_in_a_window_and_none_reaches_beyond(sizes: tuple[int, int, int]) -> None:
    length, window, stride = sizes
    starts = window_starts(length, window, stride)
    assert {frame for start in starts for frame in range(start, start + window)} >= set(range(length))
    assert starts == sorted(set(starts))
    assert len(starts) == 1 or starts[-1] + window == length


@given(SIZES, st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_constant_windows_merge_into_a_constant(sizes: tuple[int, int, int], value: float) -> None:
    length, window, stride = sizes
    starts = window_starts(length, window, stride)
    merged = merge_windows(torch.full((len(starts), window, 2), value), starts, length)
    torch.testing.assert_close(merged, torch.full((length, 2), value))


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_windows_of_a_clip_merge_into_the_clip(sizes: tuple[int, int, int]) -> None:
    length, window, stride = sizes
    values, starts = torch.randn(length, 3), window_starts(length, window, stride)
    stacked, mask = stack_windows(values, starts, window)
    assert mask.sum() == min(length, window) * len(starts)
    torch.testing.assert_close(merge_windows(stacked, starts, length), values)


def test_merging_by_hand() -> None:
    # frame 1 is in both windows, (2 + 5) / 2; the last frame of the second lies beyond the clip
    windows = torch.tensor([[[1.0], [2.0]], [[5.0], [99.0]]])
    assert merge_windows(windows, [0, 1], 2).flatten().tolist() == [1.0, 3.5]


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="a stride of 4 would leave out frames between windows of 3; take at most"):
        window_starts(10, 3, 4)
    with pytest.raises(ValueError, match="at least 1; found 0, 3 and 1"):
        window_starts(0, 3, 1)
    with pytest.raises(ValueError, match="there are 1 windows, but 2 starts"):
        merge_windows(torch.zeros(1, 3, 2), [0, 3], 6)
    with pytest.raises(ValueError, match="frame 2 of 6 lies in no window"):
        merge_windows(torch.zeros(2, 2, 2), [0, 4], 6)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lfan", "can"])
@pytest.mark.parametrize("length", [7, 31])
def test_a_clip_is_predicted_in_windows_or_whole(kind: str, length: int) -> None:
    torch.manual_seed(0)
    config = TemporalConfig.model_validate({"kind": kind, "channels": {"a": (4, 3), "b": (3,)}, "width": 4})
    model = create_temporal(config, {"a": 2, "b": 3}, 2).eval()
    features = {"a": torch.randn(length, 2), "b": torch.randn(length, 3)}
    whole = {name: values.unsqueeze(0) for name, values in features.items()}
    found = predict_clip(model, features, 10, 4, torch.tensor([True, False]), most_windows=2)
    presence = torch.tensor([[True, False]])

    def logits(begin: int, end: int) -> torch.Tensor:
        cut = {name: values[:, begin:end] for name, values in whole.items()}
        return model(cut, torch.ones(1, min(end, length) - begin, dtype=torch.bool), presence)[0]

    if kind == "can" or length <= 10:
        torch.testing.assert_close(found, logits(0, length))
        return
    starts = [0, 4, 8, 12, 16, 20, 21]
    for frame in (0, 5, 20, 30):
        values = [logits(s, s + 10)[frame - s] for s in starts if s <= frame < s + 10]
        torch.testing.assert_close(found[frame], torch.stack(values).mean(dim=0))

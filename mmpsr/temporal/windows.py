"""Windows of a clip: where they begin, what they hold, and how their logits become those of the clip.

Shape suffixes: T frames of a clip, L frames of a window, W windows, D width of features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmpsr.temporal.base import TemporalModel

__all__ = ["merge_windows", "predict_clip", "stack_windows", "window_starts"]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """List the first frames of the windows of a clip, which together hold every frame.

        0, h, 2 h, ...  while s + L <= T;   T - L as well, if they end before T;   0 alone, if T <= L

    Args:
        length: T, at least 1.
        window: L.
        stride: h, at most L.

    Raises:
        ValueError: a number is below 1, or windows would leave frames out between them.

    Example:
        >>> window_starts(701, 300, 200)
        [0, 200, 400, 401]
        >>> window_starts(744, 696, 48)
        [0, 48]
        >>> window_starts(300, 300, 200)
        [0]
    """
    if min(length, window, stride) < 1:
        raise ValueError(f"frames, window and stride are at least 1; found {length}, {window} and {stride}")
    if stride > window:
        raise ValueError(f"a stride of {stride} would leave out frames between windows of {window}; take at most that")
    if length <= window:
        return [0]
    last = length - window
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def stack_windows(values_TD: Tensor, starts: Sequence[int], window: int) -> tuple[Tensor, Tensor]:
    """Cut windows out of a clip; a clip that is shorter is padded with zeros.

    Args:
        values_TD: of all frames.
        starts: of `window_starts`.
        window: L.

    Returns:
        `[W, L, D]`, and the mask of its frames `[W, L]`.

    Example:
        >>> values, mask = stack_windows(torch.arange(3.0).view(3, 1), [0], 4)
        >>> values.flatten().tolist(), mask.tolist()
        ([0.0, 1.0, 2.0, 0.0], [[True, True, True, False]])
    """
    device = values_TD.device
    index_WL = torch.tensor(starts, device=device).unsqueeze(1) + torch.arange(window, device=device)
    mask_WL = index_WL < len(values_TD)
    values_WLD = values_TD[index_WL.clamp(max=len(values_TD) - 1)]
    return torch.where(mask_WL.unsqueeze(-1), values_WLD, 0.0), mask_WL


def merge_windows(windows_WLC: Tensor, starts: Sequence[int], length: int) -> Tensor:
    """Average the logits of the windows at every frame, `[W, L, C] -> [T, C]`.

        logits_t = mean over windows with s <= t < s + L of logits_{t - s}

    Args:
        windows_WLC: logits; of frames beyond the clip of any value.
        starts: of `window_starts`.
        length: T.

    Raises:
        ValueError: there are not as many windows as starts, or a frame lies in none.

    Example:
        >>> merge_windows(torch.tensor([[[1.0], [1.0]], [[3.0], [3.0]]]), [0, 1], 3).flatten().tolist()
        [1.0, 2.0, 3.0]
    """
    if len(windows_WLC) != len(starts):
        raise ValueError(f"there are {len(windows_WLC)} windows, but {len(starts)} starts")
    sums_TC, counts_T1 = windows_WLC.new_zeros(length, windows_WLC.shape[2]), windows_WLC.new_zeros(length, 1)
    for window_LC, start in zip(windows_WLC, starts, strict=True):
        end = min(start + len(window_LC), length)
        sums_TC[start:end] += window_LC[: end - start]
        counts_T1[start:end] += 1
    if not bool((counts_T1 > 0).all()):
        raise ValueError(f"frame {int((counts_T1 == 0).flatten().int().argmax())} of {length} lies in no window")
    return sums_TC / counts_T1


@torch.no_grad()
def predict_clip(
    model: TemporalModel,
    features: Mapping[str, Tensor],
    window: int,
    stride: int,
    presence_M: Tensor | None = None,
    most_windows: int = 32,
) -> Tensor:
    """Predict the logits of every frame of a clip, `[T, C]`: at once, or in windows whose logits are averaged.

    Args:
        model: in evaluation mode; whether it takes whole clips is its `whole_clip`.
        features: of all frames, `[T, D_m]` by modality.
        window: L, of models that take windows.
        stride: h.
        presence_M: bool, which modalities the clip has, in the model's order; all, where left out.
        most_windows: that are predicted at a time.
    """
    length = len(next(iter(features.values())))
    starts = [0] if model.whole_clip else window_starts(length, window, stride)
    size = length if model.whole_clip else window
    logits = []
    for begin in range(0, len(starts), most_windows):
        chosen = starts[begin : begin + most_windows]
        cut = {name: stack_windows(values_TD, chosen, size) for name, values_TD in features.items()}
        mask_WL = next(iter(cut.values()))[1]
        presence_WM = None if presence_M is None else presence_M.expand(len(chosen), -1)
        logits.append(model({name: values for name, (values, _) in cut.items()}, mask_WL, presence_WM))
    return merge_windows(torch.cat(logits), starts, length)

"""MT and JMT: modalities that attend to each other over time, without and with a joint representation of them.

Attention runs over all frames of a clip, both ways: these models are not causal.

Shape suffixes: B clips, T frames, S tokens of a frame, H width of the fusion, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from mmpsr.config import ConfigError
from mmpsr.layers.by_modality import ByModality
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.can import NormalizedHead
from mmpsr.temporal.config import TemporalConfig
from mmpsr.temporal.tcn import Branches

__all__ = ["JMT", "MT", "Attend", "EncoderLayer"]

JOINT = "joint"


class Attend(nn.Module):
    """Attention of queries to keys over the second dimension, without a residual.

        X(q, c) = W_o [softmax(q W_q (c W_k)^T / sqrt(K)) c W_v] + b_o   by head of width K, with biases

    Keys outside the mask take no weight; where no key is in it, all of them count, so that the result is finite.
    66,048 parameters at width 128.

    Args:
        width: H.
        num_heads: a divisor of the width.

    References:
        Vaswani et al.: Attention is all you need. NeurIPS 2017.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Attend, `[N, Q, H]` to `[N, K, H]` whose mask is bool `[N, K]`."""
        left_out = ~mask & mask.any(dim=1, keepdim=True)
        output: Tensor = self.attention(queries, keys, keys, key_padding_mask=left_out, need_weights=False)[0]
        return output


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer over the second dimension, each with a residual and a norm after it.

        h = LN(x + X(x, x)),   E(x) = LN(h + W2 ReLU(W1 h + b1) + b2)

    All inner widths are H: 99,584 parameters at width 128. No positions, no dropout.

    Args:
        width: H.
        num_heads: a divisor of the width.

    References:
        Vaswani et al.: Attention is all you need. NeurIPS 2017.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = Attend(width, num_heads)
        self.attention_norm = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.hidden_norm = nn.LayerNorm(width)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Apply the layer, `[N, K, H] -> [N, K, H]`, with the mask bool `[N, K]`."""
        values = self.attention_norm(values + self.attention(values, values, mask))
        return self.hidden_norm(values + self.hidden(values))


class _Attended(TemporalModel):
    """What MT and JMT share; they differ in the pairs that attend to each other.

    Raises:
        ConfigError: the modalities are not video and audio; an extended kind has fewer than two.
    """

    whole_clip = True
    has_joint: bool

    def __init__(self, widths: Mapping[str, int], num_classes: int, config: TemporalConfig) -> None:
        super().__init__(widths, num_classes)
        self.order = _order(self.modalities, config.kind)
        self.receptive_field = None
        self.is_released = config.form == "released"
        self.branches = Branches(widths, config.channels_of(widths), config.kernel, config.rate)
        width, heads = config.fusion_width, config.heads
        self.maps = ByModality(
            {name: nn.Linear(each, width) for name, each in self.branches.widths.items() if each != width}
        )
        streams = [*self.order, JOINT] if self.has_joint else list(self.order)
        self.joint = nn.Linear(len(widths) * width, width) if self.has_joint or self.is_released else None
        self.encoders = ByModality({name: EncoderLayer(width, heads) for name in streams})
        self.pairs = [pair for each in combinations(self.order, 2) for pair in (each, each[::-1])]
        if self.has_joint:
            self.pairs += [pair for name in self.order for pair in ((JOINT, name), (name, JOINT))]
        self.crossings = nn.ModuleList(Attend(width, heads) for _ in self.pairs)
        self.token_encoder = EncoderLayer(width, heads)
        self.token_attention = Attend(width, heads)
        self.head = NormalizedHead(width, num_classes)

    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame."""
        encoded = self.branches(values, there)
        streams = {name: self._mapped(name, encoded[name], there[name]) for name in self.order}
        there = dict(there)
        if self.has_joint:
            assert self.joint is not None
            streams[JOINT] = self.joint(torch.cat([streams[name] for name in self.order], dim=-1))
            there[JOINT] = torch.stack([there[name] for name in self.order]).any(dim=0)
        chosen = range(len(self.pairs))[-1:] if self.is_released else range(len(self.pairs))
        needed = {name for index in chosen for name in self.pairs[index]}
        streams = {
            name: torch.where(there[name].unsqueeze(-1), self.encoders[name](stream, there[name]), 0.0)
            for name, stream in streams.items()
            if name in needed
        }
        tokens, known = [], []
        for index in chosen:
            query, key = self.pairs[index]
            tokens.append(self.crossings[index](streams[query], streams[key], there[key]))
            known.append(there[query] & there[key])
        tokens_BTSH, known_BTS = torch.stack(tokens, dim=2), torch.stack(known, dim=2)
        shape = tokens_BTSH.shape
        tokens_NSH, known_NS = tokens_BTSH.flatten(0, 1), known_BTS.flatten(0, 1)
        if self.is_released:  # the batch's frames are a sequence, each slot apart
            tokens_NSH, known_NS = tokens_NSH.transpose(0, 1), known_NS.transpose(0, 1)
        tokens_NSH = self.token_encoder(tokens_NSH, known_NS)
        tokens_NSH = self.token_attention(tokens_NSH, tokens_NSH, known_NS)
        last_NH = tokens_NSH[0] if self.is_released else tokens_NSH[:, -1]
        return self.head(last_NH.reshape(shape[0], shape[1], shape[3]), mask_BT)

    def _mapped(self, name: str, values_BTD: Tensor, there_BT: Tensor) -> Tensor:
        """Bring a modality to the width of the fusion; 0 where it is not there."""
        if name not in self.maps:
            return values_BTD
        return torch.where(there_BT.unsqueeze(-1), self.maps[name](values_BTD), 0.0)


def _order(modalities: tuple[str, ...], kind: str) -> tuple[str, ...]:
    if kind.endswith("_extended"):
        if len(modalities) < 2:
            raise ConfigError(
                f"{kind} joins at least two modalities, found {list(modalities)}; of one there are lfan, can and tcn"
            )
        if JOINT in modalities:
            raise ConfigError(f"{kind} makes a representation named {JOINT!r}; give the modality of that name another")
        return modalities
    if set(modalities) != {"video", "audio"}:
        raise ConfigError(
            f"{kind} is defined of video and audio, found {list(modalities)}; take these two, or {kind}_extended, "
            "which takes any modalities and is nobody's published method"
        )
    return ("video", "audio")


class MT(_Attended):
    """Multimodal transformer: video and audio attend to each other over all frames of a clip.

    With x_m = BN(TCN(f_m)) mapped to width H, E an encoder layer over time of each, and X attention over time

        e_m = E_m(x_m),   tokens s_t = [X(e_v, e_a)_t, X(e_a, e_v)_t]
        logits_t = NormalizedHead(last token of X(E(s_t), E(s_t)))

    where the last two attend over the tokens of a frame. `mt_extended` has the tokens of all ordered pairs of its
    modalities, both directions of a pair next to each other, in their configured order; it is nobody's published
    method.

    In form `released` the last two attentions run over all frames of all clips of the batch instead, each slot apart,
    as a transposition was lost: only X(e_a, e_v) reaches the logits, and clips change each other's. A clip's logits
    then depend on what it is batched with, in evaluation, too. Only what reaches the logits is computed.

    Attention runs both ways: not causal. Tokens of a modality that a clip lacks take no weight. With video 512 and
    audio 128 wide and two classes, 3,342,146 parameters; in form `released` 32,896 more, of a layer that nothing uses.

    Args:
        widths: of the modalities' features; video and audio, in any order, but for `mt_extended`.
        num_classes: C.
        config: channels, kernel, width (H), heads, dropout and form.

    Raises:
        ConfigError: the modalities are not video and audio; `mt_extended` has fewer than two.

    References:
        Waligora et al.: Joint multimodal transformer for emotion recognition in the wild. CVPR workshops 2024.
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.

    Example:
        >>> config = TemporalConfig(kind="mt", channels={"video": (8, 4), "audio": (4,)}, width=6)
        >>> model = MT({"video": 6, "audio": 5}, 2, config).eval()
        >>> features = {"video": torch.randn(3, 30, 6), "audio": torch.randn(3, 30, 5)}
        >>> model(features, torch.ones(3, 30, dtype=torch.bool)).shape
        torch.Size([3, 30, 2])
    """

    has_joint = False


class JMT(_Attended):
    """Joint multimodal transformer: video, audio and a joint representation attend to each other over all frames.

    With x_m = BN(TCN(f_m)) mapped to width H, E an encoder layer over time of each, and X attention over time

        j = W [x_v; x_a] + b,   e_m = E_m(x_m),   e_j = E_j(j)
        s_t = [X(e_v, e_a)_t, X(e_a, e_v)_t, X(e_j, e_v)_t, X(e_v, e_j)_t, X(e_j, e_a)_t, X(e_a, e_j)_t]
        logits_t = NormalizedHead(last token of X(E(s_t), E(s_t)))

    where the last two attend over the tokens of a frame. `jmt_extended` has the tokens of all ordered pairs of its
    modalities, then of each modality with j, in their configured order; it is nobody's published method.

    In form `released` the last two attentions run over all frames of all clips of the batch instead, each slot apart,
    as a transposition was lost: only X(e_a, e_j) reaches the logits, so that five of six attentions and the encoder of
    video are never trained, and clips change each other's logits, in evaluation, too. Only what reaches the logits is
    computed.

    Attention runs both ways: not causal. Tokens of a modality that a clip lacks take no weight. With video 512 and
    audio 128 wide and two classes, 3,738,818 parameters.

    Args:
        widths: of the modalities' features; video and audio, in any order, but for `jmt_extended`.
        num_classes: C.
        config: channels, kernel, width (H), heads, dropout and form.

    Raises:
        ConfigError: the modalities are not video and audio; `jmt_extended` has fewer than two.

    References:
        Waligora et al.: Joint multimodal transformer for emotion recognition in the wild. CVPR workshops 2024.
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.

    Example:
        >>> config = TemporalConfig(kind="jmt_extended", channels=dict.fromkeys("abc", (8, 4)), width=6)
        >>> model = JMT(dict.fromkeys("abc", 5), 2, config).eval()
        >>> features = {name: torch.randn(3, 30, 5) for name in "abc"}
        >>> model(features, torch.ones(3, 30, dtype=torch.bool)).shape, len(model.pairs)
        (torch.Size([3, 30, 2]), 12)
    """

    has_joint = True

"""CAN: the softmax is over the features of all modalities, and the whole is its formula."""

from __future__ import annotations

import torch
from torch.nn import functional

from mmpsr.temporal import TemporalConfig
from mmpsr.temporal.can import CAN, NormalizedHead

MASK = torch.ones(2, 7, dtype=torch.bool)


def create(form: str = "paper") -> CAN:
    torch.manual_seed(0)
    channels = {"video": [3, 4], "audio": [5]}
    config = TemporalConfig.model_validate({"kind": "can", "channels": channels, "width": 6, "form": form})
    return CAN({"video": 2, "audio": 3}, 2, config).double().eval()


def features() -> dict[str, torch.Tensor]:
    return {"audio": torch.randn(2, 7, 3).double(), "video": torch.randn(2, 7, 2).double()}


@torch.no_grad()
def test_is_its_formula() -> None:
    model, values = create(), features()
    encoded = model.branches(values, dict.fromkeys(values, MASK))
    pieces = [functional.linear(encoded[name], *model.projections[name].parameters()) for name in ("video", "audio")]
    y = torch.cat(pieces, dim=-1)
    scores = y @ model.scorer.weight.T + model.scorer.bias
    weights = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    assert weights.shape == (2, 7, 12)
    hidden = (weights * y) @ model.head.hidden.weight.T + model.head.hidden.bias
    normalized = hidden / (1 + 1e-5) ** 0.5  # statistics are still 0 and 1
    activated = torch.where(normalized > 0, normalized, 0.01 * normalized)
    expected = activated @ model.head.output.weight.T + model.head.output.bias
    torch.testing.assert_close(model(values, MASK), expected)


@torch.no_grad()
def test_weights_of_all_modalities_are_one_distribution() -> None:
    model, values = create(), features()
    seen: list[torch.Tensor] = []
    model.projections["video"].weight.zero_()
    model.projections["audio"].weight.zero_()
    for name, fill in (("video", 1.0), ("audio", 3.0)):
        model.projections[name].bias.fill_(fill)
    model.scorer.weight.zero_()
    model.scorer.bias.copy_(torch.tensor([0.0] * 6 + [1.0] * 6).double().mul(torch.log(torch.tensor(3.0).double())))
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(values, MASK)
    model(values, MASK, torch.tensor([[True, True], [True, False]]))
    # 6 features of weight 1 and 6 of weight 3: w = 1/24 and 3/24, times y = 1 and 3
    torch.testing.assert_close(seen[0][0, 0], torch.tensor([1 / 24] * 6 + [9 / 24] * 6).double())
    # without audio: 1/6 each of video's, nothing of audio's
    torch.testing.assert_close(seen[1][1, 0], torch.tensor([1 / 6] * 6 + [0.0] * 6).double())


@torch.no_grad()
def test_the_released_form_predicts_the_same() -> None:
    paper, released, values = create(), create("released"), features()
    found = released.load_state_dict(paper.state_dict(), strict=False)
    assert found.missing_keys == ["unused.weight", "unused.bias"]
    assert torch.equal(paper(values, MASK), released(values, MASK))


def test_the_head_gathers_statistics_of_frames_that_there_are() -> None:
    head = NormalizedHead(2, 2)
    values, mask = torch.randn(1, 9, 2), torch.arange(9).unsqueeze(0) < 5
    head(values, mask)
    expected = 0.1 * head.hidden(values[0, :5]).mean(dim=0)
    torch.testing.assert_close(head.norm.running_mean, expected)

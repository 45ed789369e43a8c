from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.config import ConfigError, validate
from mmpsr.objective.config import SemiSupervisionConfig
from mmpsr.objective.pseudo_labels import PseudoLoss, SemiSupervision
from mmpsr.probabilities import has_one_class
from mmpsr.tasks import AMBIVALENCE, PERSONALITY, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY, NAN, SPECS, draw, each_spec
from tests.support.paper_loss import pseudo_label_loss

METHODS: dict[str, dict[str, Any]] = {
    "paper": {"method": "paper"},
    "soft": {"method": "soft"},
    "flexmatch": {"method": "adaptive", "rule": "flexmatch", "momentum": 0.5},
    "freematch": {"method": "adaptive", "rule": "freematch", "momentum": 0.5},
    "consistency": {"method": "consistency", "regression": "agreement", "tolerance": 0.3},
    "both": {"method": "adaptive_consistency", "align_distribution": True, "momentum": 0.5},
    "teacher": {"method": "mean_teacher", "regression": "agreement", "tolerance": 0.3},
    "teacher-entropy": {"method": "mean_teacher", "agreement": "cross_entropy", "align_distribution": True},
    "prototypes": {"method": "prototypes"},
}
each_method = pytest.mark.parametrize("values", METHODS.values(), ids=METHODS)
UNKNOWN = torch.full((1, 2), NAN)


def create(spec: TaskSpec = AMBIVALENCE, train_labels: Tensor | None = None, **values: Any) -> SemiSupervision:
    labels = draw(spec)[1] if train_labels is None else train_labels
    return SemiSupervision({"task": spec}, SemiSupervisionConfig(**values), {"task": labels})


def chances(*rows: list[float]) -> Tensor:
    """Logits of these class probabilities."""
    return torch.tensor(rows).log()


def batch_of(spec: TaskSpec, num_rows: int = 40, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Trained predictions, another view's and labels of which every third is unknown."""
    predicted, _, partly = draw(spec, num_rows)
    noise = torch.rand(predicted.shape, generator=torch.Generator().manual_seed(seed + 5)) - 0.5
    other = (predicted + noise).clamp(0, 1) if spec.kind == "regression" else predicted + noise
    return predicted, other, partly


@pytest.mark.parametrize(("threshold", "accepted"), [(0.5, [0, 1, 2]), (0.7, [0, 1]), (0.8, [0]), (0.95, [])])
def test_confident_unlabelled_rows_take_their_class(threshold: float, accepted: list[int]) -> None:
    # Largest probabilities 0.9, 0.75, 0.6; the loss against the own class is -log of each.
    chances = torch.tensor([[0.1, 0.9], [0.75, 0.25], [0.4, 0.6], [0.01, 0.99]])
    labels = torch.tensor([[NAN, NAN], [NAN, NAN], [NAN, NAN], [1.0, 0.0]])
    spec = AMBIVALENCE.model_copy(update={"threshold": threshold})
    logits = chances.log().requires_grad_()
    found = pseudo_label_loss(logits, labels, spec)
    assert found.count.item() == len(accepted)
    assert found.total.item() == pytest.approx(sum(-math.log(chances[row].max()) for row in accepted))
    # Targets are constants: the gradient is that of cross-entropy, softmax less one-hot.
    (gradient,) = torch.autograd.grad(found.total, logits)
    expected = torch.zeros(4, 2)
    for row in accepted:
        expected[row] = chances[row] - functional.one_hot(chances[row].argmax(), 2)
    torch.testing.assert_close(gradient, expected)


def test_a_probability_at_the_threshold_is_not_above_it() -> None:
    spec = AMBIVALENCE.model_copy(update={"threshold": 0.5})
    assert pseudo_label_loss(torch.zeros(1, 2), torch.full((1, 2), NAN), spec).count == 0
    traits = torch.full((1, 5), NAN)
    assert pseudo_label_loss(torch.full((1, 5), 0.5), traits, PERSONALITY).count == 0
    edge = PERSONALITY.model_copy(update={"threshold": 0.75})
    assert pseudo_label_loss(torch.tensor([[0.75, 0.25, 0.75, 0.25, 0.5]]), traits, edge).count == 0


@pytest.mark.parametrize("binary", [False, True])
def test_traits_beyond_the_threshold_take_their_side(binary: bool) -> None:
    # Threshold 0.6: 0.7 and 0.9 are taken as 1, 0.3 as 0, 0.55 and 0.45 lie between. The second row knows one trait.
    # -log 0.7 - log 0.9 - log(1 - 0.3) = 0.356675 + 0.105361 + 0.356675 = 0.818710.
    scores = torch.tensor([[0.7, 0.55, 0.3, 0.45, 0.9], [0.9, 0.9, 0.9, 0.9, 0.9]]).requires_grad_()
    labels = torch.tensor([[NAN] * 5, [NAN, 0.2, NAN, NAN, NAN]])
    if binary:
        spec = BINARY.model_copy(update={"classes": tuple("abcde"), "threshold": 0.6})
        found = pseudo_label_loss(torch.logit(scores), labels, spec)
    else:
        found = pseudo_label_loss(scores, labels, PERSONALITY.model_copy(update={"threshold": 0.6}))
    assert (found.total.item(), found.count.item()) == (pytest.approx(0.818710, abs=1e-6), 3)
    # d(-log s)/ds = -1/s for the side 1, 1 / (1 - s) for the side 0: targets are constants.
    (gradient,) = torch.autograd.grad(found.total, scores)
    expected = torch.tensor([[-1 / 0.7, 0.0, 1 / 0.7, 0.0, -1 / 0.9], [0.0] * 5])
    torch.testing.assert_close(gradient, expected)


def test_saturated_scores_keep_a_finite_loss_and_gradient() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0, 1.0]]).requires_grad_()
    loss = pseudo_label_loss(scores, torch.full((1, 5), NAN), PERSONALITY).mean()
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("spec", [AMBIVALENCE, BINARY.model_copy(update={"classes": ("a",)})], ids=["classes", "sides"])
def test_soft_targets_are_sharpened_and_weighted_by_confidence(spec: TaskSpec) -> None:
    # p = (0.2, 0.8), T = 0.5: squares 0.04 and 0.64 over 0.68 = (0.058824, 0.941176); weight (0.8 - 0.5) / 0.5 = 0.6.
    # -0.058824 log 0.2 - 0.941176 log 0.8 = 0.094673 + 0.210017 = 0.304690, times 0.6 = 0.182814. (0.5, 0.5) has no
    # weight; the third row is labelled. A class of its own: the sides 1 - p and p.
    one = spec.num_outputs == 1
    logits = torch.logit(torch.tensor([[0.8], [0.5], [0.8]])) if one else chances([0.2, 0.8], [0.5, 0.5], [0.2, 0.8])
    labels = torch.full_like(logits, NAN)
    labels[2] = 1.0
    logits.requires_grad_()
    found = create(spec, method="soft", temperature=0.5).loss("task", logits, logits, labels)
    assert found.loss.total.item() == pytest.approx(0.182814, abs=1e-6)
    assert found.loss.count.item() == pytest.approx(0.6)
    assert found.accepted.tolist() == pytest.approx([0.6] if one else [0.0, 0.6])
    assert found.candidates.tolist() == ([2.0] if one else [1.0, 1.0])  # of equals, the first class is the predicted
    # Targets are constants: 0.6 (q - target).
    (gradient,) = torch.autograd.grad(found.loss.total, logits)
    slope = 0.6 * (0.8 - 0.941176)
    expected = [[slope], [0.0], [0.0]] if one else [[-slope, slope], [0.0, 0.0], [0.0, 0.0]]
    torch.testing.assert_close(gradient, torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_the_weak_view_labels_the_strong_one() -> None:
    # The weak view is sure of rows 0 (class 1, 0.9) and 3 (labelled); the strong view gives class 1 of row 0 0.4:
    # -log 0.4 = 0.916291. Row 1 is below 0.8; row 2 is sure of class 0, which the strong view gives 0.5: log 2.
    weak = chances([0.1, 0.9], [0.3, 0.7], [0.95, 0.05], [0.1, 0.9]).requires_grad_()
    strong = chances([0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.1, 0.9]).requires_grad_()
    labels = torch.tensor([[NAN, NAN]] * 3 + [[1.0, 0.0]])
    semi = create(method="consistency")
    assert (semi.needs_strong_view, semi.needs_teacher) == (True, False)
    found = semi.loss("task", strong, weak, labels)
    assert found.loss.total.item() == pytest.approx(0.916291 + math.log(2), abs=1e-6)
    assert (found.loss.count.item(), found.accepted.tolist(), found.candidates.tolist()) == (2, [1, 1], [1, 2])
    gradient, source = torch.autograd.grad(found.loss.total, [strong, weak], allow_unused=True)
    assert source is None
    torch.testing.assert_close(gradient, torch.tensor([[0.6, -0.6], [0.0, 0.0], [-0.5, 0.5], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("agreement", "temperature", "expected"),
    # Teacher (0.2, 0.8), student (0.5, 0.5): mean of 0.3^2 twice. Sharpened (0.058824, 0.941176): 0.441176^2. Whatever
    # the target, -log 0.5 is the cross-entropy.
    [("mse", 1.0, 0.09), ("mse", 0.5, 0.194637), ("cross_entropy", 0.5, 0.693147)],
)
@pytest.mark.parametrize("sides", [False, True])
def test_the_student_agrees_with_the_teacher(agreement: Any, temperature: float, expected: float, sides: bool) -> None:
    spec = BINARY.model_copy(update={"classes": ("a",)}) if sides else AMBIVALENCE
    teacher = torch.logit(torch.tensor([[0.8], [0.9]])) if sides else chances([0.2, 0.8], [0.1, 0.9])
    student = torch.zeros_like(teacher).requires_grad_()
    labels = torch.full_like(teacher, NAN)
    labels[1] = 0.0
    semi = create(spec, method="mean_teacher", agreement=agreement, temperature=temperature, teacher_decay=0.9)
    assert (semi.needs_strong_view, semi.needs_teacher, semi.teacher_decay) == (False, True, 0.9)
    teacher.requires_grad_()
    found = semi.loss("task", student, teacher, labels)
    assert (found.loss.total.item(), found.loss.count.item()) == (pytest.approx(expected, abs=1e-6), 1)
    assert found.accepted.tolist() == found.candidates.tolist() == ([1.0] if sides else [0.0, 1.0])
    gradient, source = torch.autograd.grad(found.loss.total, [student, teacher], allow_unused=True)
    assert source is None
    assert gradient[0].abs().min() > 0
    assert gradient[1].abs().max() == 0


@pytest.mark.parametrize("method", ["consistency", "mean_teacher"])
def test_scores_are_accepted_where_two_views_agree(method: Any) -> None:
    # |0.5 - 0.53| and |0.2 - 0.16| are below 0.05, |0.6 - 0.66| and |0.9 - 0.5| are not; one trait agrees fully.
    # Row 1 knows a trait.
    trained = torch.tensor([[0.53, 0.66, 0.16, 0.5, 0.7], [0.5] * 5]).requires_grad_()
    source = torch.tensor([[0.5, 0.6, 0.2, 0.9, 0.7], [0.5] * 5]).requires_grad_()
    labels = torch.tensor([[NAN] * 5, [NAN, NAN, 0.3, NAN, NAN]])
    semi = create(PERSONALITY, method=method, regression="agreement", tolerance=0.05)
    found = semi.loss("task", trained, source, labels)
    assert (found.loss.total.item(), found.loss.count.item()) == (pytest.approx(0.07), 3)
    assert (found.accepted.tolist(), found.candidates.tolist()) == ([1, 0, 1, 0, 1], [1] * 5)
    gradient, other = torch.autograd.grad(found.loss.total, [trained, source], allow_unused=True)
    assert other is None
    assert gradient.tolist() == [[1.0, 0.0, -1.0, 0.0, 0.0], [0.0] * 5]


def test_scores_take_their_side_whatever_the_method() -> None:
    source, trained = torch.tensor([[0.7, 0.55, 0.3, 0.45, 0.9]]), torch.full((1, 5), 0.8)
    spec = PERSONALITY.model_copy(update={"threshold": 0.6})
    for values in ({"method": "soft"}, {"method": "adaptive", "align_distribution": True}, {"method": "mean_teacher"}):
        found = create(spec, **values).loss("task", trained, source, torch.full((1, 5), NAN))
        # Sides 1, -, 0, -, 1: -2 log 0.8 - log 0.2 = 0.446287 + 1.609438.
        assert (found.loss.total.item(), found.loss.count.item()) == (pytest.approx(2.055725, abs=1e-6), 3)
        assert found.accepted.tolist() == [1, 0, 1, 0, 1]


def test_regression_can_be_left_to_its_labels() -> None:
    scores = torch.full((3, 5), 0.9).requires_grad_()
    found = create(PERSONALITY, method="paper", regression="none").loss("task", scores, scores, torch.full((3, 5), NAN))
    assert (found.loss.total.item(), found.loss.count.item()) == (0, 0)
    assert found.candidates.tolist() == [0] * 5
    logits = chances([0.1, 0.9])
    assert create(method="paper", regression="none").loss("task", logits, logits, UNKNOWN).loss.count == 1


def test_alignment_comes_before_the_choice_and_the_threshold() -> None:
    # Marginal (0.75, 0.25), momentum 0.5: a = (0.575, 0.425) after a batch of p = (0.4, 0.6);
    # p' ~ (0.4 0.75 / 0.575, 0.6 0.25 / 0.425) = (0.521739, 0.352941), so 0.596491 and 0.403509: class 0.
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [NAN, NAN]])
    logits = chances([0.4, 0.6])
    for threshold, count in ((0.59, 1), (0.6, 0)):
        spec = AMBIVALENCE.model_copy(update={"threshold": threshold})
        semi = create(spec, labels, method="paper", align_distribution=True, momentum=0.5)
        found = semi.loss("task", logits, logits, UNKNOWN)
        assert (found.accepted.tolist(), found.candidates.tolist()) == ([count, 0], [1, 0])
        assert found.loss.total.item() == pytest.approx(-count * math.log(0.4))


@each_method
@each_spec
def test_labelled_clips_never_count(values: dict[str, Any], spec: TaskSpec) -> None:
    spec = spec.model_copy(update={"threshold": 0.5})
    predicted, other, partly = batch_of(spec)
    partly[1, 1:] = NAN  # one known entry makes a row labelled
    unlabelled = ~torch.isfinite(partly).any(dim=1)
    semi, alone = create(spec, **values), create(spec, **values)
    leaf = predicted.clone().requires_grad_()
    found = semi.loss("task", leaf, other, partly)
    found.loss.total.backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    touched = leaf.grad.abs().sum(dim=1) > 0
    assert touched.any()
    assert not (touched & ~unlabelled).any()
    expected = alone.loss("task", predicted[unlabelled], other[unlabelled], partly[unlabelled])
    assert_same(found, expected)
    for name, value in semi.state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name])


def assert_same(left: PseudoLoss, right: PseudoLoss) -> None:
    torch.testing.assert_close(left.loss.total.detach(), right.loss.total.detach())
    for found, expected in (
        (left.loss.count, right.loss.count), (left.accepted, right.accepted), (left.candidates, right.candidates)
    ):  # fmt: skip
        torch.testing.assert_close(found, expected)
    assert (right.accepted <= right.candidates).all()


@each_method
@each_spec
def test_without_unlabelled_clips_the_loss_and_its_gradient_are_zero(values: dict[str, Any], spec: TaskSpec) -> None:
    predicted, other, _ = batch_of(spec)
    semi = create(spec, **values)
    before = {name: value.clone() for name, value in semi.state_dict().items()}
    leaf = predicted.clone().requires_grad_()
    found = semi.loss("task", leaf, other, draw(spec)[1])
    found.loss.mean().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, torch.zeros_like(predicted))
    assert found.loss.total == found.loss.count == found.accepted.sum() == found.candidates.sum() == 0
    assert all(torch.equal(value, before[name]) for name, value in semi.state_dict().items())


@pytest.mark.parametrize("name", ["paper", "consistency", "flexmatch"])
@each_spec
def test_where_nothing_is_sure_the_loss_and_its_gradient_are_zero(name: str, spec: TaskSpec) -> None:
    spec = spec.model_copy(update={"threshold": 0.999})
    semi = create(spec, **METHODS[name] | {"tolerance": 1e-6, "momentum": 0.9999})
    for module in semi.thresholds.values():
        module.learned.fill_(1 / module.learned.shape[1])  # all classes are learnt: their thresholds are the base one
    predicted, other, _ = batch_of(spec)
    predicted, other = 0.5 + 0.2 * (predicted - 0.5), 0.4 + 0.1 * other
    leaf, labels = predicted.clone().requires_grad_(), torch.full_like(predicted, NAN)
    found = semi.loss("task", leaf, other, labels)
    found.loss.mean().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, torch.zeros_like(predicted))
    assert found.loss.total == found.loss.count == found.accepted.sum() == 0
    assert found.candidates.sum() == 40 * (1 if has_one_class(spec) else spec.num_outputs)


class Processes:
    """Sums over threads that stand for processes."""

    def __init__(self, number: int) -> None:
        self.barrier, self.parts, self.num_sums = threading.Barrier(number, timeout=20), [torch.empty(0)] * number, 0

    def total(self, index: int) -> Callable[[Tensor], Tensor]:
        def total(tensor: Tensor) -> Tensor:
            self.parts[index] = tensor
            self.num_sums += index == 0
            self.barrier.wait()
            summed = torch.stack(self.parts).sum(dim=0)
            self.barrier.wait()
            return summed

        return total


@each_method
@each_spec
def test_two_halves_equal_the_whole(values: dict[str, Any], spec: TaskSpec) -> None:
    spec = spec.model_copy(update={"threshold": 0.6})
    whole, halves, processes = create(spec, **values), [create(spec, **values) for _ in range(2)], Processes(2)
    for seed in range(3):
        predicted, other, partly = batch_of(spec, seed=seed)
        expected = whole.loss("task", predicted, other, partly)
        found: list[PseudoLoss] = [expected] * 2

        def run(index: int, predicted: Tensor = predicted, other: Tensor = other, partly: Tensor = partly,
                found: list[PseudoLoss] = found) -> None:  # fmt: skip
            rows = slice(index * 11, 11 + index * 40)
            found[index] = halves[index].loss(
                "task", predicted[rows], other[rows], partly[rows], processes.total(index)
            )

        threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.testing.assert_close(found[0].loss.total + found[1].loss.total, expected.loss.total)
        torch.testing.assert_close(found[0].loss.count + found[1].loss.count, expected.loss.count)
        torch.testing.assert_close(found[0].accepted + found[1].accepted, expected.accepted)
        torch.testing.assert_close(found[0].candidates + found[1].candidates, expected.candidates)
        assert expected.loss.count > 0
        for half in halves:
            for name, value in half.state_dict().items():
                torch.testing.assert_close(value, whole.state_dict()[name])
    follows = spec.kind != "regression"
    rules = (values["method"].startswith("adaptive"), values.get("align_distribution", False))
    assert processes.num_sums == 3 * follows * sum(rules)


@each_method
def test_a_restored_state_continues_identically(values: dict[str, Any]) -> None:
    spec = SPECS["emotion"]
    semi, restored = create(spec, **values), create(spec, **values)

    def step(module: SemiSupervision, seed: int) -> PseudoLoss:
        module.advance()
        return module.loss("task", *batch_of(spec, seed=seed))

    for seed in range(3):
        step(semi, seed)
    restored.load_state_dict(copy.deepcopy(semi.state_dict()))
    for seed in range(3, 6):
        left, right = step(semi, seed), step(restored, seed)
        assert torch.equal(left.loss.total, right.loss.total)
        assert torch.equal(left.accepted, right.accepted)
    assert restored.num_steps == 6


@each_method
@each_spec
def test_half_precision_predictions_are_read_as_float(values: dict[str, Any], spec: TaskSpec) -> None:
    predicted, other, partly = (tensor.bfloat16() for tensor in batch_of(spec))
    found = create(spec, **values).loss("task", predicted, other, partly).loss.total
    expected = create(spec, **values).loss("task", predicted.float(), other.float(), partly).loss.total
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@each_method
@each_spec
def test_losses_of_double_predictions_have_their_precision(values: dict[str, Any], spec: TaskSpec) -> None:
    predicted, other, partly = batch_of(spec)
    loss = create(spec, **values).loss("task", predicted.double().requires_grad_(), other, partly).loss.total
    single = create(spec, **values).loss("task", predicted, other, partly).loss.total
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(single.item(), rel=1e-5)
    assert loss.item() != single.item() or single == 0


@each_method
@each_spec
def test_nothing_waits_for_the_device(values: dict[str, Any], spec: TaskSpec) -> None:
    # Tensors of the meta device have no values: whatever reads one, or has a shape that depends on one, is an error.
    predicted, other, partly = (tensor.to("meta") for tensor in batch_of(spec))
    semi = create(spec, probability=0.5, ramp="sigmoid", **values).to("meta")
    view = Batch({"a": predicted, "b": other}, torch.ones(40, 2, dtype=torch.bool, device="meta"))
    semi.advance()
    loss = semi.loss("task", predicted.requires_grad_(), other, partly).loss
    (loss.mean() * semi.ramp()).backward()
    assert semi.strong_view(view).presence.shape == (40, 2)
    for wait in (lambda: loss.count.item(), lambda: other[other > 0]):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()


def test_clips_are_admitted_with_the_probability() -> None:
    torch.manual_seed(0)
    logits = chances([0.1, 0.9]).expand(4000, 2)
    labels = torch.full((4000, 2), NAN)
    labels[:1000] = 0.5
    for probability, expected in ((0.0, 0.0), (0.3, 0.3), (1.0, 1.0)):
        found = create(method="paper", probability=probability).loss("task", logits, logits, labels)
        # Three standard deviations of a share of 3000: 3 (0.3 * 0.7 / 3000)^0.5 = 0.025.
        tolerance = 0.025 if probability == 0.3 else 0.0
        assert found.candidates[1].item() / 3000 == pytest.approx(expected, abs=tolerance)
        assert torch.equal(found.candidates, found.accepted)
        assert found.loss.count == found.accepted.sum()
    before = torch.get_rng_state()
    create(method="paper").loss("task", logits, logits, labels)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn where all are admitted


@pytest.mark.parametrize(
    ("ramp", "expected"),
    # t = 1/4, 1/2, 3/4, 1, 1: exp(-5 (1 - t)^2) = exp(-2.8125), exp(-1.25), exp(-0.3125), 1, 1.
    [
        ("none", [1.0] * 5),
        ("linear", [0.25, 0.5, 0.75, 1.0, 1.0]),
        ("sigmoid", [0.0600546, 0.2865048, 0.7316156, 1.0, 1.0]),
    ],
)
def test_the_ramp(ramp: Any, expected: list[float]) -> None:
    semi, found = create(method="paper", ramp=ramp, ramp_steps=4), []
    for _ in range(5):
        semi.advance()
        found.append(semi.ramp().item())
    assert found == pytest.approx(expected, abs=1e-6)


def present(num_rows: int = 6000) -> Tensor:
    """Presence of four modalities in every combination, none included."""
    patterns = torch.tensor([[bool(n >> m & 1) for m in range(4)] for n in range(16)])
    return patterns.repeat(num_rows // 16, 1)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_strong_view_loses_some_modality_and_keeps_one(rate: float) -> None:
    torch.manual_seed(0)
    presence = present()
    features = {name: torch.rand(len(presence), 2) for name in "abcd"}
    batch = Batch(features, presence, {"task": torch.rand(len(presence), 2)}, torch.arange(len(presence)))
    view = create(method="consistency", hide_rate=rate).strong_view(batch)
    assert (view.features, view.labels, view.rows) == (batch.features, batch.labels, batch.rows)
    had, has = presence.sum(dim=1), view.presence.sum(dim=1)
    assert not (view.presence & ~presence).any()
    assert torch.equal(has[had < 2], had[had < 2])
    assert (has[had >= 2] >= 1).all()
    assert (has[had >= 2] < had[had >= 2]).all()
    # Of four draws the largest stays, the smallest goes, the middle two stay above 0.5 with 11/16 and 5/16: 2 stay.
    expected = {0.0: 3.0, 0.5: 2.0, 1.0: 1.0}[rate]
    full = view.presence[had == 4].float()
    assert full.sum(dim=1).mean().item() == pytest.approx(expected, abs=0.15)
    assert full.mean(dim=0).tolist() == pytest.approx([expected / 4] * 4, abs=0.1)


def test_the_strong_view_is_drawn_anew_and_from_torchs_seed() -> None:
    semi = create(method="consistency")
    batch = Batch({name: torch.zeros(320, 1) for name in "abcd"}, present(320))
    torch.manual_seed(1)
    first, second = semi.strong_view(batch).presence, semi.strong_view(batch).presence
    torch.manual_seed(1)
    assert torch.equal(semi.strong_view(batch).presence, first)
    assert not torch.equal(first, second)


@each_method
@each_spec
def test_pseudo_labels_are_those_of_the_loss_and_move_nothing(values: dict[str, Any], spec: TaskSpec) -> None:
    semi = create(spec, **values)
    predicted, other, _ = batch_of(spec)
    labels = torch.full_like(predicted, NAN)
    found = semi.loss("task", predicted, other, labels)
    before = copy.deepcopy(semi.state_dict())
    sure = other if spec.kind == "regression" else torch.softmax(other, dim=1)
    if spec.loss == "binary_cross_entropy":
        sure = torch.sigmoid(other)
    labelled = semi.pseudo_labels("task", sure, predicted)
    torch.testing.assert_close(labelled.weights.sum(), found.loss.count)
    assert all(torch.equal(value, before[name]) for name, value in semi.state_dict().items())


def test_agreement_without_another_view_is_refused() -> None:
    for method in ("paper", "soft", "adaptive"):
        with pytest.raises(ConfigError, match=r'regression = "agreement" compares two views, and method .* has one'):
            validate(SemiSupervisionConfig, {"method": method, "regression": "agreement"}, "semi_supervision")
    semi = create(PERSONALITY, method="mean_teacher", regression="agreement")
    with pytest.raises(ValueError, match="pseudo-labels of 'task' need the other view's scores"):
        semi.pseudo_labels("task", torch.zeros(1, 5))
    assert SemiSupervisionConfig(method="none", regression="agreement").method == "none"

import copy

import torch

from mmpsr.adaptation.network import FeatureNetwork


def count(part: torch.nn.Module) -> int:
    return sum(each.numel() for each in part.parameters())


def test_numbers_of_parameters() -> None:
    network = FeatureNetwork(768)
    # 768 x 256 + 256 of the layer, 2 x 256 of BatchNorm; 2 x 256 directions, 2 lengths, 2 biases
    assert count(network.bottleneck) == 197_376
    assert count(network.classifier) == 516


def test_logits_follow_lengths_and_directions() -> None:
    network = FeatureNetwork(3, bottleneck=2).eval()
    weight = network.classifier.parametrizations.weight
    with torch.no_grad():
        weight.original0.copy_(torch.tensor([[2.0], [5.0]]))  # g
        weight.original1.copy_(torch.tensor([[3.0, 4.0], [0.0, 7.0]]))  # v, of length 5 and 7
        network.classifier.bias.zero_()
    embedded = torch.tensor([[1.0, 1.0]])
    # 2 (3 + 4) / 5 = 2.8 and 5 x 7 / 7 = 5
    torch.testing.assert_close(network.classifier(embedded), torch.tensor([[2.8, 5.0]]))


def test_outputs_are_of_evaluation_and_leave_the_mode() -> None:
    torch.manual_seed(0)
    network, rows = FeatureNetwork(4, bottleneck=3), torch.randn(9, 4) * 5 + 1
    state = copy.deepcopy(network.state_dict())
    embedded, probabilities = network.train().outputs(rows, batch_size=2)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(network.eval()(rows).softmax(dim=1), probabilities)
    torch.testing.assert_close(network.embed(rows), embedded)
    assert not probabilities.requires_grad

"""Convolutions of torch_geometric: against the classes themselves on each clip alone, and what is refused."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from torch_geometric import nn as pyg

from mmpsr import extras
from mmpsr.batch import Batch
from mmpsr.config import ConfigError, validate
from mmpsr.extras import MissingExtraError
from mmpsr.layers.graph.build import create_graph
from mmpsr.layers.graph.config import GraphConfig
from mmpsr.layers.graph.pyg import Convolution, complete_edges, require_convolution
from mmpsr.models import config as model_config
from mmpsr.models.build import create_model, restore_model
from mmpsr.models.config import ModelConfig
from mmpsr.tasks import AMBIVALENCE
from tests.support.graph_cases import all_masks, uniform

USABLE: list[tuple[str, dict[str, Any]]] = [
    ("GATConv", {"heads": 2}), ("GATv2Conv", {"heads": 2, "add_self_loops": False}), ("GCNConv", {}),
    ("GCNConv", {"normalize": False}), ("SAGEConv", {"aggr": ["mean", "max"]}), ("TransformerConv", {"heads": 4}),
    ("SGConv", {"K": 2}), ("TAGConv", {"K": 2}), ("APPNP", {"K": 2, "alpha": 0.1}),
    ("GatedGraphConv", {"num_layers": 2}), ("EGConv", {"num_heads": 2}), ("FeaStConv", {"heads": 2}),
    ("LEConv", {}), ("AGNNConv", {}), ("CGConv", {}),
    ("ARMAConv", {"num_stacks": 2}), ("SimpleConv", {}), ("GENConv", {"norm": None}),
]  # fmt: skip


def test_edges_by_hand() -> None:
    # nodes 0 to 5 of two clips, 6 is the extra one; 1 and 5 are absent
    edges = complete_edges(torch.tensor([[True, False, True], [True, True, False]]), True)
    assert edges.shape == (2, 18)
    real = sorted(tuple(edge) for edge in edges.T.tolist() if edge != [6, 6])
    assert real == [(0, 0), (0, 2), (2, 0), (2, 2), (3, 3), (3, 4), (4, 3), (4, 4)]
    without = complete_edges(torch.tensor([[True, False, True], [True, True, False]]), False)
    assert sorted(tuple(edge) for edge in without.T.tolist() if edge != [6, 6]) == [(0, 2), (2, 0), (3, 4), (4, 3)]


@pytest.mark.parametrize(("name", "options"), USABLE, ids=str)
def test_it_is_the_class_on_the_present_nodes_of_each_clip(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = Convolution(name, 8, options).double().eval()
    made = getattr(pyg, name)
    concatenated = options.get("heads", 1) if name != "FeaStConv" else 1  # its heads are averaged
    widths = {"in_channels": 8, "out_channels": 8 // concatenated}
    wanted = inspect.signature(made.__init__).parameters
    arguments = {key: value for key, value in {**widths, "channels": 8}.items() if key in wanted}
    oracle = made(**arguments, **options).double().eval()
    oracle.load_state_dict(layer.conv.state_dict())
    masks = all_masks(3)
    nodes = uniform(len(masks), 3, 8, dtype=torch.float64)
    found = layer(nodes, masks)
    for clip in range(1, len(masks)):
        present = masks[clip].nonzero().squeeze(1)
        edges = torch.combinations(torch.arange(len(present))).reshape(-1, 2)
        expected = oracle(nodes[clip, present], torch.cat([edges, edges.flip(1)]).T)  # self loops are the class's own
        torch.testing.assert_close(found[clip, present], expected)


@pytest.mark.parametrize("name", ["GATv2Conv", "GCNConv", "SAGEConv"])
def test_nothing_looks_at_values(name: str) -> None:
    layer = Convolution(name, 8).to("meta").train()  # a tensor of this device has no values to look at
    edges = complete_edges(torch.ones(5, 4, dtype=torch.bool, device="meta"), layer.self_loops)
    assert layer.conv(torch.ones(21, 8, device="meta"), edges).shape == (21, 8)


@pytest.mark.parametrize(
    ("name", "options", "wrong"),
    [
        ("GATv3Conv", {}, "pyg:GATv3Conv is no convolution of torch_geometric.nn; did you mean 'GATv2Conv'?"),
        ("Linear", {}, "pyg:Linear is no convolution"),
        ("MessagePassing", {}, "pyg:MessagePassing is no convolution"),
        ("GATv2Conv", {"head": 4}, "pyg:GATv2Conv has no argument 'head'; did you mean 'heads'?"),
        ("GATv2Conv", {"heads": 3}, "concatenates 3 heads, which do not divide the width 8"),
        ("SAGEConv", {"agg": "max"}, "has no argument 'agg'; did you mean 'aggr'?"),
        ("SAGEConv", {"aggr": "maxx"}, "cannot be made with aggr = \"maxx\""),
        ("GCNConv", {"cached": True}, "cannot be given cached: edges differ from batch to batch"),
        ("GCNConv", {"improved": True}, "give add_self_loops = false with it"),
        ("GCNConv", {"out_channels": 4}, "gives vectors of width 4, and 8 is needed (model.hidden_width)"),
        ("HEATConv", {}, "pyg:HEATConv needs node_type, edge_type beside nodes and edges"),
        ("PointNetConv", {}, "reads x, pos, edge_index, where there are nodes and edges alone (x, edge_index)"),
        ("NNConv", {}, "pyg:NNConv needs nn: give it in graph_options, if it is a number or a word"),
        ("SSGConv", {}, "pyg:SSGConv needs alpha"),
        ("RGCNConv", {"num_relations": 2}, "pyg:RGCNConv does not run on nodes and edges alone"),
        ("ChebConv", {"K": 2}, "looks at the values of its nodes or edges in training"),
        ("GENConv", {}, "change each other's predictions (it holds BatchNorm1d)"),
        ("GPSConv", {"conv": None, "norm": None}, "lets clips of a batch, or absent modalities, change each other's "),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_reason(name: str, options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match="pyg:") as error:
        require_convolution(name, 8, options)
    assert wrong in str(error.value)
    with pytest.raises(ConfigError) as told:  # before anything is trained
        validate(ModelConfig, {"graph": f"pyg:{name}", "hidden_width": 8, "graph_options": options}, "mine.toml")
    assert wrong in str(told.value)


def test_trying_a_layer_draws_nothing() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    require_convolution("TransformerConv", 12, {"heads": 3})
    assert torch.equal(torch.rand(2), expected)


def test_options_of_a_configuration_are_the_arguments_of_the_class() -> None:
    config = validate(ModelConfig, {"graph": "pyg:SSGConv", "graph_options": {"alpha": 0.1}}, "mine.toml")
    assert config.graph_options.pyg == {"alpha": 0.1}
    assert config.graph_options.alpha == 0.5  # edgnn's
    stored = json.loads(config.model_dump_json())
    assert validate(ModelConfig, stored, "config.json") == config
    plain = validate(ModelConfig, {"graph": "edgnn", "graph_options": {"alpha": 0.1}}, "mine.toml")
    assert (plain.graph_options.alpha, plain.graph_options.pyg) == (0.1, {})


@pytest.mark.parametrize(
    ("tree", "wrong"),
    [
        ({"graph": "gat", "graph_options": {"heads": 4}}, "graph_options.heads is not a setting"),
        ({"graph": "gat", "graph_options": {"pyg": {"heads": 4}}}, "graph_options.pyg (heads) is for graph = \"pyg:"),
        ({"graph": "pyg"}, "graph: Input should be 'none', 'gat'"),
        ({"graph": "pyg:nn.GATConv"}, "graph: Input should be 'none', 'gat'"),
        ({"graph": "pyg:GATConv", "graph_options": {"heads": {"a": 1}}}, "graph_options.pyg: Input should be a"),
    ],
)  # fmt: skip
def test_wrong_configurations(tree: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(ModelConfig, tree, "mine.toml")
    assert wrong in str(error.value)


def test_without_torch_geometric_a_configuration_can_be_read_and_a_layer_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(model_config, "find_spec", lambda name: None)
    assert ModelConfig(graph="pyg:GATv2Conv").graph == "pyg:GATv2Conv"
    with pytest.raises(MissingExtraError, match=r'torch_geometric is not installed; .* pip install "\.\[graphs\]"'):
        create_graph("pyg:GATv2Conv", 8, 0.1, 3, GraphConfig())


def test_a_model_with_it_is_restored_and_asks_for_ordinary_passes() -> None:
    config = ModelConfig(
        hidden_width=8, head_width=8, num_heads=2, graph="pyg:GATv2Conv", graph_options=GraphConfig(pyg={"heads": 2})
    )
    tasks = {"ambivalence": AMBIVALENCE}
    model = create_model(config, {"text": 4, "audio": 3}, tasks).eval()
    assert not model.one_pass
    again = restore_model(config, ["text", "audio"], tasks, model.state_dict())
    presence = torch.tensor([[True, True], [True, False]])
    batch = Batch({"text": torch.randn(2, 4), "audio": torch.randn(2, 3)}, presence)
    torch.testing.assert_close(again(batch).logits["ambivalence"], model(batch).logits["ambivalence"])
    names = [name for name, _ in model.named_parameters() if name.startswith("graph.")]
    assert {name.removeprefix("graph.conv.").split(".")[0] for name in names} == {"att", "bias", "lin_l", "lin_r"}

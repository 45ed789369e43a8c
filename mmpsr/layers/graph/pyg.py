"""Any convolution of torch_geometric over the complete graph of a clip's present modalities.

Nothing here looks at values on the device: the list of edges has the same length whatever is present. An edge that is
not there leads from an extra node to itself, which no clip sees.

Shape suffixes: B clips, M modalities (nodes), H hidden width, E = B M^2 edges.
"""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmpsr.config import nearest
from mmpsr.extras import require_extra
from mmpsr.layers.graph.config import PREFIX

__all__ = ["Convolution", "complete_edges", "require_convolution"]


PERCEPTRONS: Mapping[str, int] = {"GINConv": 1, "EdgeConv": 2}
"""Class that maps what it aggregates by a network of its own -> how many nodes that network reads."""
GIVEN = ("in_channels", "out_channels", "channels")
FIXED: Mapping[str, str] = {
    "cached": "edges differ from batch to batch",
    "node_dim": "nodes are the first dimension",
    "add_remaining_self_loops": "add_self_loops is what says so",
    "improved": "its self loops have a weight of their own; give add_self_loops = false with it",
}
"""Options that cannot be given, and why."""
PASSED_ON = ("aggr", "aggr_kwargs", "flow", "decomposed_layers")
"""What a class with `**kwargs` hands on to `MessagePassing`."""


def complete_edges(mask_BM: Tensor, self_loops: bool) -> Tensor:
    """List every ordered pair of each clip's present nodes, `[2, B M^2]`; all others are the extra node B M twice.

    Args:
        mask_BM: bool, which nodes are present; node m of clip b has the number b M + m.
        self_loops: whether a present node is a neighbour of its own.

    Example:
        >>> complete_edges(torch.tensor([[True, False, True]]), False).tolist()
        [[3, 3, 0, 3, 3, 3, 2, 3, 3], [3, 3, 2, 3, 3, 3, 0, 3, 3]]
    """
    num_clips, num_nodes = mask_BM.shape
    exists_BMM = mask_BM.unsqueeze(1) & mask_BM.unsqueeze(2)
    if not self_loops:
        exists_BMM = exists_BMM & ~torch.eye(num_nodes, dtype=torch.bool, device=mask_BM.device)
    numbers_BM = torch.arange(num_clips * num_nodes, device=mask_BM.device).view(num_clips, num_nodes)
    ends = (numbers_BM.unsqueeze(2), numbers_BM.unsqueeze(1))
    return torch.stack([torch.where(exists_BMM, end, num_clips * num_nodes).flatten() for end in ends])


class Convolution(nn.Module):
    """A convolution of torch_geometric on the complete graph of a clip's present modalities.

        out_i = act(conv(x, {(j, i): i != j both present}))_i

    and with (i, i) among the edges where the class adds self loops. In and out have width H; heads that are
    concatenated have H / heads each. Classes that need a network (GINConv, EdgeConv) are given one of two layers. No
    activation follows.

    Its parameters are used in ways that a tape does not record: `undeferrable` tells a training step to use ordinary
    backward passes. The cost is that of the class, on B M^2 edges.

    Args:
        name: of a class of `torch_geometric.nn`.
        width: H.
        options: further arguments of the class.

    Raises:
        MissingExtraError: torch_geometric is not installed.
        ValueError: there is no such class, it has no such argument, or it cannot be used here: it needs more than
            nodes and edges, changes the width, lets clips see each other, or looks at values on the device.

    References:
        Fey, Lenssen: Fast graph representation learning with PyTorch Geometric. ICLR workshop 2019.
    """

    undeferrable: ClassVar[bool] = True

    def __init__(self, name: str, width: int, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        require_convolution(name, width, options)
        self.name = name
        self.conv, self.self_loops = _create(name, width, options or {})

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Map `[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`."""
        # Sums over edges and what they are added to must be of one precision, which autocast does not see to.
        with torch.autocast(nodes_BMH.device.type, enabled=False):
            nodes_BMH = nodes_BMH if nodes_BMH.dtype == torch.float64 else nodes_BMH.float()
            nodes = torch.cat([nodes_BMH.flatten(0, 1), nodes_BMH.new_zeros(1, nodes_BMH.shape[2])])
            out: Tensor = self.conv(nodes, complete_edges(mask_BM, self.self_loops))
        return out[:-1].unflatten(0, mask_BM.shape)


def require_convolution(name: str, width: int, options: Mapping[str, Any] | None = None) -> None:
    """See that a convolution can be used as a layer, by trying it on a few numbers once.

    Args and errors are those of `Convolution`.
    """
    require_extra("graphs")
    _require(name, width, json.dumps(dict(options or {}), sort_keys=True))


@lru_cache(maxsize=256)
def _require(name: str, width: int, options: str) -> None:
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(0)
        try:
            conv, self_loops = _create(name, width, json.loads(options))
        except _UnusableError as error:
            raise ValueError(f"{PREFIX}{name} {error}") from None
        for wrong in (_shape, _mixing, _waiting):
            reason = wrong(conv, width, self_loops)
            if reason:
                raise ValueError(f"{PREFIX}{name} {reason}")


class _UnusableError(ValueError):
    """Why a class cannot be made; the message goes on after its name."""


def _create(name: str, width: int, options: Mapping[str, Any]) -> tuple[nn.Module, bool]:
    """Make the layer, and say whether its edges have self loops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts some of its own functions, which torch now advises against
        from torch_geometric.nn import MessagePassing, conv

    known = [each for each in conv.__all__ if each != "MessagePassing"]
    if name not in known:
        raise _UnusableError(f"is no convolution of torch_geometric.nn; {nearest(name, known)}")
    made = getattr(conv, name)
    read = list(inspect.signature(made.forward).parameters.values())[1:]
    if [each.name for each in read[:2]] != ["x", "edge_index"]:
        wanted = ", ".join(each.name for each in read)
        raise _UnusableError(f"reads {wanted}, where there are nodes and edges alone (x, edge_index)")
    more = [each.name for each in read[2:] if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if more:
        raise _UnusableError(f"needs {', '.join(more)} beside nodes and edges")
    parameters = dict(inspect.signature(made.__init__).parameters)
    arguments = _arguments(name, width, options, parameters, issubclass(made, MessagePassing))
    self_loops = "add_self_loops" in parameters and arguments.get(
        "add_self_loops", parameters["add_self_loops"].default
    )
    if self_loops is None:  # GCNConv: where it normalises
        self_loops = arguments.get("normalize", True)
    if "add_self_loops" in parameters:
        arguments["add_self_loops"] = False  # they are among the edges: adding them would look for those that are there
    try:
        layer = made(**arguments)
    except Exception as error:
        raise _UnusableError(f"cannot be made with {_worded(options)}: {type(error).__name__}: {error}") from None
    return layer, bool(self_loops)


def _arguments(
    name: str, width: int, options: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], hands_on: bool
) -> dict[str, Any]:
    """Put together what a class is made with: widths, a network where it needs one, and the options."""
    names = [each for each in parameters if each not in ("self", "args", "kwargs")]
    allowed = [
        *(each for each in names if each not in FIXED),
        *(PASSED_ON if hands_on and "kwargs" in parameters else ()),
    ]
    for option, value in options.items():
        if option == "improved" and option in names and (not value or options.get("add_self_loops") is False):
            continue
        if option in FIXED:
            raise _UnusableError(f"cannot be given {option}: {FIXED[option]}")
        if option not in allowed:
            raise _UnusableError(f"has no argument {option!r}; {nearest(option, allowed)}")
    heads = options.get("heads", 1) if options.get("concat", "concat" in names) else 1
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise _UnusableError(
            f"concatenates {heads!r} heads, which do not divide the width {width}; take another number, or "
            "concat = false"
        )
    arguments: dict[str, Any] = {each: width for each in GIVEN if each in names}
    if "out_channels" in names:
        arguments["out_channels"] = width // heads
    if name in PERCEPTRONS:
        layers = (nn.Linear(PERCEPTRONS[name] * width, width), nn.ReLU(), nn.Linear(width, width))
        arguments["nn"] = nn.Sequential(*layers)
    arguments |= options
    missing = [each for each in names if each not in arguments and parameters[each].default is inspect.Parameter.empty]
    if missing:
        raise _UnusableError(f"needs {', '.join(missing)}: give it in graph_options, if it is a number or a word")
    return arguments


def _worded(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{option} = {json.dumps(value)}" for option, value in options.items()) or "no options"


def _nodes(width: int, num_clips: int) -> tuple[Tensor, Tensor]:
    """A few nodes, and which of them are present."""
    mask_BM = torch.tensor([[True, True, False], [True, True, True], [False, True, False]])[:num_clips]
    return torch.randn(num_clips, 3, width), mask_BM


def _run(conv: nn.Module, nodes_BMH: Tensor, mask_BM: Tensor, self_loops: bool) -> Tensor:
    nodes = torch.cat([nodes_BMH.flatten(0, 1), nodes_BMH.new_zeros(1, nodes_BMH.shape[2])])
    with torch.no_grad():
        out: Tensor = conv(nodes, complete_edges(mask_BM, self_loops))
    return out


def _shape(conv: nn.Module, width: int, self_loops: bool) -> str | None:
    """Say what is wrong with what comes out, if anything is."""
    try:
        out = _run(conv.eval(), *_nodes(width, 3), self_loops)
    except Exception as error:
        return f"does not run on nodes and edges alone: {type(error).__name__}: {error}"
    if not isinstance(out, Tensor) or not out.is_floating_point():
        return "does not give one vector for each node"
    if out.shape != (10, width):
        return f"gives vectors of width {out.shape[-1]}, and {width} is needed (model.hidden_width)"
    return None


def _mixing(conv: nn.Module, width: int, self_loops: bool) -> str | None:
    """Say whether a present node depends on other clips, or on absent nodes."""
    nodes_BMH, mask_BM = _nodes(width, 3)
    # in training some normalisations use the batch, and at evaluation what they kept of it
    whole = [type(each).__name__ for each in conv.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    alone = _run(conv.eval(), nodes_BMH[:1], mask_BM[:1], self_loops)[:2]
    others = torch.cat([nodes_BMH[:1], 10 * torch.randn(2, 3, width)])
    others[0, 2] = 100.0
    beside = _run(conv, others, mask_BM, self_loops)[:2]
    if whole or not torch.allclose(alone, beside, rtol=1e-3, atol=1e-4):
        why = f" (it holds {whole[0]})" if whole else ""
        return f"lets clips of a batch, or absent modalities, change each other's predictions{why}; see its options"
    return None


def _waiting(conv: nn.Module, width: int, self_loops: bool) -> str | None:
    """Say whether it looks at values in training: tensors of the device `meta` have none."""
    try:
        nodes_BMH, mask_BM = (each.to("meta") for each in _nodes(width, 3))
        with torch.device("meta"):
            _run(copy.deepcopy(conv).to("meta").train(), nodes_BMH, mask_BM, self_loops)
    except Exception as error:
        return (
            "looks at the values of its nodes or edges in training, for which every step would wait for the device: "
            f"{str(error).splitlines()[0]}"
        )
    return None

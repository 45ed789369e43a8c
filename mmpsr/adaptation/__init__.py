"""Adaptation of a classifier to one participant whose labels it does not see.

    source   people with labels: a network is fitted to them once
    target   one person without labels: a copy of that network is adapted, by one `Method`

`base` is the interface with its settings, `network` and `pictures` what is adapted, `loops` how; `source`, `mmd`,
`subject`, `shot` and `nrc` are the methods, `build` makes the one that is named.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.adaptation.base import AdaptationConfig, LabeledTarget, Method, Places, Source, Target
    from mmpsr.adaptation.build import METHODS, create_method
    from mmpsr.adaptation.network import FeatureNetwork
    from mmpsr.adaptation.pictures import PictureNetwork, Pictures
    from mmpsr.adaptation.source import fit_source
else:
    __getattr__ = on_demand(__name__, "base", "build", "network", "pictures", "source")

__all__ = [
    "METHODS",
    "AdaptationConfig",
    "FeatureNetwork",
    "LabeledTarget",
    "Method",
    "PictureNetwork",
    "Pictures",
    "Places",
    "Source",
    "Target",
    "create_method",
    "fit_source",
]

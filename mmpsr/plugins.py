"""Entry points: what other installed packages add, by the groups `mmpsr.corpora` and `mmpsr.encoders`.

```toml
[project.entry-points."mmpsr.corpora"]         # of somebody else's pyproject.toml
iemocap = "their_package.iemocap:IemocapCorpus"

[project.entry-points."mmpsr.encoders"]
openface = "their_package.entries:OPENFACE"
```
"""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import Any

__all__ = ["load_plugins"]


def load_plugins(group: str, kind: type) -> dict[str, Any]:
    """Load objects that installed packages offer under a group, by the name of their entry point.

    One that cannot be imported, or is not what the group holds, is left out with a warning that names its package: a
    broken package must not keep others from working.

    Args:
        group: of entry points.
        kind: class that each object must be an instance or a subclass of.
    """
    offered: dict[str, Any] = {}
    for point in metadata.entry_points(group=group):
        package = point.dist.name if point.dist is not None else point.value
        try:
            plugin = point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            if isinstance(plugin, kind) or (isinstance(plugin, type) and issubclass(plugin, kind)):
                offered[point.name] = plugin
                continue
            reason = f"{point.value} is no {kind.__name__}"
        warnings.warn(f"{group}: {point.name!r} of the package {package} is left out: {reason}", stacklevel=2)
    return offered

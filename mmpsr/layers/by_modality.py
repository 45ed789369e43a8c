"""Modules by modality and view."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView

from torch import nn

__all__ = ["ByModality", "modality_of", "module_name"]

_DOT = "__"


def module_name(modality: str) -> str:
    """Name the module that belongs to a modality or view: modules of torch must not have a dot in their names.

    Example:
        >>> module_name("text.lexica"), module_name("text")
        ('text__lexica', 'text')
    """
    return modality.replace(".", _DOT)


def modality_of(module: str) -> str:
    """Name the modality or view that a module belongs to, the inverse of `module_name`.

    Example:
        >>> modality_of("text__lexica")
        'text.lexica'
    """
    return module.replace(_DOT, ".")


class ByModality(nn.ModuleDict):
    """Modules by the names of modalities and views, among parameters by `module_name`.

    Example:
        >>> modules = ByModality({"text.lexica": nn.Linear(2, 1, bias=False)})
        >>> list(modules), "text.lexica" in modules, [name for name, _ in modules.named_parameters()]
        (['text.lexica'], True, ['text__lexica.weight'])
    """

    def __setitem__(self, key: str, module: nn.Module) -> None:
        super().__setitem__(module_name(key), module)

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(module_name(key))

    def __contains__(self, key: str) -> bool:
        return super().__contains__(module_name(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        """Names of modalities and views, in order."""
        return {modality_of(name): None for name in self._modules}.keys()

    def items(self) -> ItemsView[str, nn.Module]:  # type: ignore[override]
        """Names of modalities and views with their modules, in order."""
        return {modality_of(name): self._modules[name] for name in self._modules}.items()  # type: ignore[return-value]

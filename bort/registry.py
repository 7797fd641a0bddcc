"""Registries: the choices of a configuration group by name, each a settings class that builds what it describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from bort.errors import ConfigurationError

#: Default of a required setting; OmegaConf uses the same sign.
REQUIRED = "???"

T = TypeVar("T")
K = TypeVar("K")


class Registry(Mapping[str, type[T]]):
    """The choices of one configuration group: dataclasses of settings by name, in the order of their registration.

    A settings class stays light: heavy libraries are imported in its methods, since every command imports every registered class.

    Args:
        group: The configuration group, such as ``strategy``.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self._kinds: dict[str, Any] = {}

    def register(self, kind: type[K]) -> type[K]:
        """Register a dataclass under the default of its field ``name``; a decorator, placed above ``@dataclass``.

        Raises:
            ValueError: Another class has that name.
        """
        name = next(field.default for field in fields(kind) if field.name == "name")  # type: ignore[arg-type]
        known = self._kinds.get(str(name), kind)
        if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"{self.group}={name} is registered twice: by {known} and by {kind}.")
        self._kinds[str(name)] = kind
        return kind

    def unknown(self, name: str) -> ConfigurationError:
        """Return the error for a name without a class."""
        return ConfigurationError(self.group, name, f"one of {', '.join(self)}")

    def __getitem__(self, name: str) -> type[T]:
        kind: type[T] = self._kinds[name]
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

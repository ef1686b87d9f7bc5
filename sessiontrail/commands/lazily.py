"""Commands that are imported when they are asked for: one needs no other's libraries."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


class LazyCommands(Mapping[str, Any]):
    """Commands by name, in order; Any: Typer's own click has no stubs."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """Know where commands are.

        Args:
            places: Module below this package and attribute, by name: a function, or an application.
        """
        self._places = places

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        """Import a command."""
        module, _, attribute = self._places[name].partition(":")
        found = getattr(import_module(f"{__package__}.{module}"), attribute)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(name)(found)
            command = typer.main.get_command(alone)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)


def lazy_group(places: Mapping[str, str]) -> type[TyperGroup]:
    """The class of a group of such commands.

    Args:
        places: As ``LazyCommands``.
    """

    class LazyGroup(TyperGroup):
        """Has nothing but these."""

        def __init__(self, **settings: Any) -> None:  # noqa: ANN401 (whatever Typer says)
            super().__init__(**settings)
            self.commands = LazyCommands(places)  # type: ignore[assignment]  # only read

    return LazyGroup

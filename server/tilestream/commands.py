"""Commands that are found by entry points: those that other packages add to ``tilestream``.

In the group ``tilestream.commands``, ``NAME = "module:attribute"`` names a function with typer's annotations,
or a typer app. Its line in ``--help`` is the first one of the function's docstring (of an app: of its
module's), which is read from the source: nothing is imported before its command is called.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import typer

from tilestream.terminal import say

GROUP = "tilestream.commands"

TRAINING = ("train", "train-masked", "train-gate", "eval")
"""Commands of the distribution ``tilestream-training``, which a server does without."""

_AS_GIVEN = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_installed_commands(app: typer.Typer, own: set[str]) -> None:
    """Add the commands of all installed packages, but none called as one of the server's ``own``."""
    others = {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in own}
    for name in sorted(others):
        add_lazy_command(app, others[name])
    if absent := [name for name in TRAINING if name not in others]:
        app.info.epilog = f"More commands with `pip install tilestream-training`: {', '.join(absent)}."
        for name in absent:
            _add(app, name, _tell_where(name), "Not installed.", hidden=True)


def add_lazy_command(app: typer.Typer, entry: EntryPoint) -> None:
    """A command that is imported when it is called; it gets all arguments, ``--help`` included."""

    def run(context: typer.Context) -> None:
        try:
            command = entry.load()
        except (ImportError, AttributeError) as error:
            say(f"tilestream {entry.name}: {_owner(entry)} cannot be loaded: {error}", error=True)
            raise typer.Exit(1) from None
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            command.command()(function)
        command.rich_markup_mode = None  # as all of ours: see tilestream.cli
        command(args=context.args, prog_name=f"tilestream {entry.name}")

    _add(app, entry.name, run, _summary(entry))


def _add(
    app: typer.Typer, name: str, run: Callable[[typer.Context], None], summary: str, hidden: bool = False
) -> None:
    given = {"help": summary, "short_help": summary, "hidden": hidden}  # what is short is never cut
    app.command(name, add_help_option=False, context_settings=_AS_GIVEN, **given)(run)  # type: ignore[arg-type]


def _tell_where(name: str) -> Callable[[typer.Context], NoReturn]:
    def run(context: typer.Context) -> NoReturn:
        say(
            f"tilestream {name}: not installed; it is in another package: pip install tilestream-training "
            "(from a clone: pip install ./street ./training)",
            error=True,
        )
        raise typer.Exit(2)

    return run


def _summary(entry: EntryPoint) -> str:
    """The first line of what documents the command; else whose it is."""
    try:
        spec = find_spec(entry.module)
        source = Path(spec.origin).read_bytes() if spec is not None and spec.origin else b""
        tree = ast.parse(source)
    except (ImportError, OSError, SyntaxError, ValueError):
        return f"Of {_owner(entry)}."
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry.attr]
    documentation = ast.get_docstring(functions[0] if functions else tree)
    return documentation.partition("\n")[0] if documentation else f"Of {_owner(entry)}."


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module

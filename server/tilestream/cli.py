"""The ``tilestream`` command.

Nothing here imports torch or gRPC before a command needs it, so that ``--help`` is instant.
"""

from __future__ import annotations

import inspect
import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from tilestream import __version__
from tilestream.commands import GROUP, add_installed_commands, add_lazy_command
from tilestream.config import ENV_PREFIX, ConfigError, Settings, load_settings
from tilestream.temporary import NoTemporaryFolderError, ensure_temporary_folder
from tilestream.terminal import prepare_output, say

app = typer.Typer(
    name="tilestream",
    help="Streaming video segmentation that computes as little as it may.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: nothing is cut at 80 columns, and every output can show it
)

_OF_A_MODEL = ("name", "description", "classes", "stride", "parameters", "reference_miou")

# Its own commands that need much to be imported; the others are below.
LAZY_COMMANDS = {name: f"tilestream.remote:{name}" for name in ("top", "info", "health")}
LAZY_COMMANDS["token"] = "tilestream.access.command:app"


def main() -> None:
    """Entry point of the ``tilestream`` command."""
    # gRPC's own lines keep to no format and no limit, and anybody can cause one by a handshake that fails. It
    # reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    prepare_output()
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"tilestream {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def models(
    explain: Annotated[
        str, typer.Option(metavar="NAME", help="Print how this model (or weight file) is run on tiles.")
    ] = "",
    bin_size: Annotated[int, typer.Option(help="Side of a bin for --explain, pixels.")] = 64,
    size: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Frame for --explain.")] = "480x360",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List models, shipped and of other packages, or explain one."""
    try:
        ensure_temporary_folder()
        if explain:
            _explain(explain, bin_size, size)
            return
        failed = _list_models(as_json)
    except (NoTemporaryFolderError, OSError) as error:
        say(f"tilestream models: {error}", error=True)
        raise typer.Exit(1) from None
    if failed:
        raise typer.Exit(1)


def _list_models(as_json: bool) -> bool:
    """Print them; whether any of them cannot be loaded."""
    from tilestream.messages import ModelInfo
    from tilestream.models import ModelError, list_models, list_plugins, load_model

    failed = False
    found: list[ModelInfo] = []
    for name in (*list_models(), *list_plugins()):
        try:
            found.append(load_model(name).info)  # type: ignore[arg-type]
        except ModelError as error:
            say(f"tilestream models: {error}", error=True)
            failed = True
    if as_json:
        listed = [{field: getattr(info, field) for field in _OF_A_MODEL} for info in found]
        print(json.dumps({"models": listed}), flush=True)
        return failed
    for info in found:
        miou = f"mIoU {info.reference_miou:.3f}" if info.reference_miou is not None else "mIoU not measured"
        say(f"{info.name}: {info.description} ({info.parameters / 1e6:.1f} M weights, {miou})")
        say(f"  classes: {', '.join(info.classes)}")
    return failed


def _explain(name: str, bin_size: int, size: str) -> None:
    from tilestream.engine.lowering.explain import explain_program
    from tilestream.engine.lowering.lower import lower
    from tilestream.engine.lowering.program import LoweringError
    from tilestream.models import ModelError, load_model

    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise typer.BadParameter(f"{size!r}; has to be WIDTHxHEIGHT, such as 480x360", param_hint="--size")
    try:
        program = lower(load_model(name), bin_size)
    except (ModelError, LoweringError) as error:
        say(f"tilestream models: {error}", error=True)
        raise typer.Exit(2) from None
    for line in explain_program(program, int(height), int(width)):
        say(line)


def serve(**flags: Any) -> None:
    """Serve segmentation over gRPC until SIGTERM or Ctrl-C.

    Every setting can come from a flag, an environment variable or a settings file, in this order of
    precedence.
    """
    file = flags.pop("config", None)
    try:
        settings = load_settings({name: value for name, value in flags.items() if value is not None}, file)
    except ConfigError as error:
        say(f"tilestream serve: {error}", error=True)
        raise typer.Exit(2) from None
    from tilestream.server import run_server

    raise typer.Exit(run_server(settings))


def _serve_signature() -> inspect.Signature:
    """One flag per field of the settings, all optional: what is not given comes from elsewhere."""
    file = typer.Option(
        envvar=f"{ENV_PREFIX}CONFIG", help="Settings file, YAML or TOML.", dir_okay=False, exists=True
    )
    parameters = [_parameter("config", Path, file)]
    for name, field in Settings.model_fields.items():
        flag, kind = f"--{name.replace('_', '-')}", _flag_type(field)
        names = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
        option = typer.Option(*names, help=_flag_help(name, field), show_default=False)
        parameters.append(_parameter(name, kind, option))
    return inspect.Signature(parameters)


def _parameter(name: str, kind: type, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag_type(field: FieldInfo) -> type:
    """The type of a flag: plain ones as they are, everything else is text that the settings check."""
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    return kinds[0] if kinds[0] in (int, float, bool, Path) else str


def _flag_help(name: str, field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, bool):
        default = "yes" if default else "no"
    notes = [
        f"default: {'none' if default in (None, (), '') else default}",
        f"env: {ENV_PREFIX}{name.upper()}",
    ]
    if get_origin(field.annotation) is Literal:
        notes.insert(0, " | ".join(get_args(field.annotation)))
    return f"{field.description} ({'; '.join(notes)})"


def _add_serve() -> None:
    signature = _serve_signature()
    serve.__signature__ = signature  # type: ignore[attr-defined]
    serve.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    app.command()(serve)


_add_serve()
for _name, _target in LAZY_COMMANDS.items():
    add_lazy_command(app, EntryPoint(_name, _target, GROUP))
add_installed_commands(app, own={"serve", "models", *LAZY_COMMANDS})

if __name__ == "__main__":
    main()

"""Make, list and remove the tokens that callers show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tilestream.access.tokens import add_token, remove_tokens, token_names

app = typer.Typer(
    help="Make, list and remove the tokens that callers show.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[
    Path,
    typer.Option("--file", envvar="TILESTREAM_TOKEN_FILE", help="The file that `serve --token-file` reads."),
]
Name = Annotated[str, typer.Argument(help="Whose token it is: the name of the identity.")]


@app.command()
def add(name: Name, file: File) -> None:
    """Make a token for NAME and print it, once: the file has its hash only."""
    try:
        token = add_token(file, name)
    except (OSError, ValueError) as error:
        _fail("add", error)
    typer.echo(token)
    typer.echo(f"Clients send it as 'authorization: Bearer ...'. {file} has its hash.", err=True)


@app.command("list")
def list_names(file: File) -> None:
    """Print the names, one per token."""
    try:
        names = token_names(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _fail("list", error)
    for name in names:
        typer.echo(name)


@app.command()
def remove(name: Name, file: File) -> None:
    """Remove all tokens of NAME; a running server refuses them a second later."""
    try:
        count = remove_tokens(file, name)
    except (OSError, ValueError) as error:
        _fail("remove", error)
    if not count:
        _fail("remove", ValueError(f"{file} has no token of {name!r}"))
    typer.echo(f"removed {count} of {name}", err=True)


def _fail(command: str, error: Exception) -> NoReturn:
    typer.echo(f"tilestream token {command}: {error}", err=True)
    raise typer.Exit(1) from None

"""The ``tilestream-client`` command."""

from tilestream_client.cli.app import app, main

__all__ = ["app", "main"]

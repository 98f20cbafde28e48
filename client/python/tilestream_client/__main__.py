"""``python -m tilestream_client`` is the ``tilestream-client`` command."""

from tilestream_client.cli import main

main()

"""``python -m tilestream``: the same as the ``tilestream`` command."""

from tilestream.cli import main

if __name__ == "__main__":
    main()

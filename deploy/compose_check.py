"""The check of the compose stack under the name that scripts know: see ``tools/compose_check.py``."""

import sys

from tools.compose_check import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m support.fake_server FLAGS``: the real command's flags, with the fake engine."""

import sys

from support.fake_engine import FakeEngine
from tilestream import server
from tilestream.cli import app

if __name__ == "__main__":
    server.make_torch_engines = lambda settings, begin: [FakeEngine]
    app(["serve", *sys.argv[1:]])

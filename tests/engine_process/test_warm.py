"""What engines are forked from: it has no threads, whether or not there is something that starts one."""

import subprocess
import sys

import pytest

from support.processes import environment


@pytest.mark.parametrize("begin", ["", "sys.modules['tqdm'] = None;"], ids=["all installed", "no tqdm"])
def test_it_is_imported_without_starting_a_thread(begin):
    code = f"import sys, threading; {begin} import tilestream.engine_process.warm\n"
    code += "print(threading.active_count())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert result.stdout == "1\n"

"""A child dies with its parent."""

import os
import signal
import subprocess
import sys

import psutil

CHILD = (
    "import os, sys, time\nfrom craft.infra.process.parent_death import die_with_parent\n"
    "die_with_parent(int(sys.argv[1]))\ntime.sleep(60)"
)
PARENT = (
    "import os, subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}, str(os.getpid())])\n"
    "print(child.pid, flush=True)\n"
    "child.wait()"
)


def test_it_is_killed_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    gone, left = psutil.wait_procs([child], timeout=10)
    assert (gone, left) == ([child], [])


def test_it_ends_at_once_where_its_parent_is_gone_already() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(os.getpid() + 1)], timeout=30, check=False)
    assert done.returncode == 1

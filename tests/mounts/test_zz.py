import os, subprocess, sys
from tests.builders import Machine
from tests.mounts.mounting import *
def test_ok(mounted, tmp_path):
    b = Machine().build(tmp_path)
    m = mounted(b.image)
    assert m.vmcore.stat().st_size == b.model.size
    print(m.daemon, m.said)
def test_bad(tmp_path):
    b = Machine().build(tmp_path)
    (tmp_path/"m").mkdir()
    assert run("mount", b.image, tmp_path/"m").returncode==0
def test_fd(tmp_path):
    os.open("/dev/null", 0)
def test_fg(tmp_path, backend):
    b = Machine().build(tmp_path)
    with in_foreground(b.image, tmp_path/"m", backend=backend) as p:
        assert p.poll() is None

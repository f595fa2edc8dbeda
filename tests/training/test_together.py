"""Two gloo processes that train together, and what they must decide alike."""

import os
import subprocess
import sys

# A step waits for the other process, and the second one begins late: when its time is up, the
# first one's has been for a while.
LATE = """
import sys, time, torch
from pathlib import Path
from training import distributed
from training.loop import LoopConfig, run

class Waiting:
    device = "cpu"
    def train_step(self, step):
        time.sleep(0.05)
        return {"sum": float(distributed.sum_(torch.ones(1)))}
    def evaluate(self, step, out):
        return {}
    def state_dict(self):
        return {}

distributed.start("cpu")
time.sleep(1.0 * distributed.rank())
out = Path(sys.argv[1])
step = run(Waiting(), LoopConfig(minutes=1.5 / 60, sample_every=0), out, {}, resume=False)
(out / f"step{distributed.rank()}").write_text(str(step))
distributed.stop()
"""


def test_processes_stop_at_the_same_step_whatever_their_clocks_say(tmp_path):
    (tmp_path / "worker.py").write_text(LATE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-port", str(29500 + (os.getpid() + 500) % 1000)]
    result = subprocess.run(
        [*torchrun, str(tmp_path / "worker.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    assert result.returncode == 0, result.stderr
    steps = [int((tmp_path / f"step{rank}").read_text()) for rank in range(2)]
    assert steps[0] == steps[1] > 0

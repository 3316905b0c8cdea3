"""What training needs is known before its first step, and said in one line where it is not there."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from common.memory import free_memory
from neuropbr.train_config import PRESET_GB, TrainConfig, apply_overrides, finalize, load_config
from neuropbr.utils import memory
from neuropbr.utils.batches import EpochBatches, make_loader, read_batches
from neuropbr.utils.memory import PeakBytes, gigabytes, say_what_it_needs, training_bytes
from tests.support import neuropbr_tools as tools

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def config_of(**more):
    config = TrainConfig()
    apply_overrides(config, [word for word in tools.sets(**more) if word != "--set"])
    return finalize(config)


# --- counting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_that_live_at_once_are_counted(device):
    with torch.device(device), PeakBytes() as counter:
        a = torch.empty(1000)
        b = a * 2
        view = b[10:].reshape(-1, 10)  # of the same memory
        del a
        c = view + 1
        del b, view, c
    assert counter.peak == 4000 + 4000 and counter.now == 0


def test_checkpointing_is_part_of_the_count():
    plain = config_of(data__image_size=128, model__use_transformer=False, model__activation_checkpointing=False)
    less = config_of(data__image_size=128, model__use_transformer=False, model__activation_checkpointing=True)
    assert memory.tensor_bytes(less, CPU)[0] < 0.9 * memory.tensor_bytes(plain, CPU)[0]


def test_it_grows_with_batch_and_pixels_and_leaves_the_random_numbers_alone():
    state = torch.get_rng_state()
    base = memory.tensor_bytes(config_of(model__use_transformer=False), CPU)[0]
    batch = memory.tensor_bytes(config_of(model__use_transformer=False, data__batch_size=8), CPU)[0]
    side = memory.tensor_bytes(config_of(model__use_transformer=False, data__image_size=128), CPU)[0]
    assert 3 < batch / base < 4.1 and 3 < side / base < 4.1
    assert torch.equal(torch.get_rng_state(), state)
    dropout = config_of(data__image_size=128)  # keeps a matrix of all pairs of tokens on a CPU, not on CUDA
    assert memory.tensor_bytes(dropout, CPU)[0] > 3 * memory.tensor_bytes(dropout, CUDA)[0]


# A training of one step, with what was said before it and the peak of its process.
MEASURED = """
import resource, sys, torch
torch.set_num_threads(1)
from neuropbr import train
train.main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
QUIET = ["--epochs", "1", "--set", "data.val_ratio=0", "--set", "training.val_batches=1",
         "--set", "training.use_tensorboard=false"]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tools.write_set(tmp_path_factory.mktemp("tiny"), materials=2, size=32)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
@pytest.mark.timeout(300)
def test_the_estimate_is_within_thirty_percent_of_a_real_peak(tiny, tmp_path):
    words = [*QUIET, "--input-dir", tiny / "input", "--output-dir", tiny / "output", "--checkpoint-dir", tmp_path]
    sets = tools.sets(data__image_size=128, model__transformer_num_heads=4)
    done = tools.in_process(tools.ROOT, "-c", MEASURED, "--render-curriculum", 0, *words, *sets, own=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = re.search(r"needs about ([\d.]+) GB \(batch 2 at 128x128\)", done.stdout)
    assert 0.7 < float(said[1]) * 1e9 / float(done.stdout.split()[-1]) < 1.3, done.stdout


def test_files_that_cannot_be_used_are_said_first(tmp_path, capsys):
    words = ["--input-dir", tmp_path, "--checkpoint-dir", tmp_path]
    assert tools.run("train", *words) == 2 and tools.run("student/train", *words, "--shards-dir", tmp_path) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("render_metadata.json") >= 2


def test_presets_name_what_they_need():
    """In --help and in the document's table, where the file of the configuration stands for its name."""
    text = (tools.ROOT / "docs" / "neuropbr.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(?:configs/)?(\w+)(?:\.py)?` \| ([\d.]+) GB \|", text, re.M))
    names = {path.stem for path in (tools.HOME / "configs").glob("*.py")} - {"my_config"}
    assert set(rows) == {*PRESET_GB, *names}
    for name in ("quick_test", "overfit", "mobilenetv3_512"):
        file = tools.HOME / "configs" / f"{name}.py"
        config = finalize(load_config(str(file) if file.exists() else name))
        need = training_bytes(config, CUDA, gan=name != "mobilenetv3_512")
        assert abs(float(rows[name]) / (need / 1e9) - 1) < 0.06, (name, need)
    assert {name: float(rows[name]) for name in PRESET_GB} == PRESET_GB


# --- saying it -----------------------------------------------------------------------------------------------------


def test_a_warning_names_what_helps(monkeypatch):
    said = []
    monkeypatch.setattr(memory, "training_bytes", lambda *_: 9e8)
    for free, batch in ((1e12, 2), (None, 2), (5e8, 2), (5e8, 1)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        say_what_it_needs(config_of(data__batch_size=batch), CPU, say=said.append)
    assert [line.startswith("warning") for line in said] == [False, False, True, True]
    assert "0.5 GB are free" in said[2] and "--set data.image_size=32" in said[2] and "batch 2 at 64x64" in said[0]
    assert "--batch-size" in said[2] and "--batch-size" not in said[3]
    assert (gigabytes(14.4e9), gigabytes(0.833e9), gigabytes(4.07e12)) == ("14 GB", "0.83 GB", "4100 GB")


def test_free_memory_is_the_least_of_machine_and_containers(tmp_path):
    meminfo, groups, own = tmp_path / "meminfo", tmp_path / "groups", tmp_path / "own"
    meminfo.write_text("MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    4000 kB\n")
    own.write_text("0::/job/part\n")
    (groups / "job" / "part").mkdir(parents=True)
    assert free_memory(meminfo, groups, own) == 4000 * 1024
    (groups / "job" / "part" / "memory.max").write_text("max\n")
    (groups / "job" / "part" / "memory.current").write_text("5\n")
    assert free_memory(meminfo, groups, own) == 4000 * 1024
    (groups / "job" / "memory.max").write_text("3000000\n")
    (groups / "job" / "memory.current").write_text("1000000\n")
    (groups / "job" / "memory.stat").write_text("anon 4\ninactive_file 7000\n")
    assert free_memory(meminfo, groups, own) == 2007000
    assert free_memory(tmp_path / "no", tmp_path / "no", tmp_path / "no") is None


# --- running out of it ---------------------------------------------------------------------------------------------

# The command as a user starts it, in a process that gets a few more MB than PyTorch has taken.
LIMITED = """
import resource, runpy, sys, torch
import neuropbr.utils.teacher_loop, neuropbr.utils.memory
torch.set_num_threads(1)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 800 * 2**20,) * 2)
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits as Linux has them")
@pytest.mark.timeout(300)
def test_a_cpu_without_memory_ends_in_one_line_with_this_commands_flags(tiny, tmp_path):
    words = [*QUIET, "--input-dir", tiny / "input", "--output-dir", tiny / "output", "--checkpoint-dir", tmp_path]
    done = tools.in_process(tools.ROOT, "-c", LIMITED, "neuropbr/train.py", *words, *tools.sets(data__image_size=512))
    assert done.returncode == 2, done.stderr[-2000:]
    assert len(done.stderr.strip().splitlines()) == 1 and "--batch_size" not in done.stderr
    assert "out of memory" in done.stderr and "--batch-size" in done.stderr and "data.image_size" in done.stderr


class Dying(Dataset):
    def __init__(self):
        self.parent = os.getpid()

    def __getitem__(self, index):
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are forked on Linux only")
def test_a_reader_that_the_system_ends_is_said(refused):
    data = config_of(data__num_workers=2).data
    loader = make_loader(Dying(), EpochBatches(8, 2, 0), data, CPU)
    with refused("data.num_workers=1"):
        list(read_batches(loader))


def test_other_failures_of_a_reader_are_not_hidden():
    class Broken(Dataset):
        def __getitem__(self, index):
            raise RuntimeError("a bug")

    loader = make_loader(Broken(), EpochBatches(2, 1, 0), config_of().data, CPU)
    with pytest.raises(RuntimeError, match="a bug"):
        list(read_batches(loader))

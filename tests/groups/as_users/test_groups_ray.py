"""A batch on a Ray cluster of two nodes on this machine: a signal, then the loss of a node."""

from __future__ import annotations

import os
import signal
import threading

import pytest

os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 are too few on a busy machine; read at import
ray = pytest.importorskip("ray", reason='needs Ray: pip install "ray[default]"')
from ray.cluster_utils import Cluster

import train
from groups.journal import read_batch
from tests.support.runs import refusal
from tests.support.user_batches import (
    GOOD,
    at_work,
    check_complete,
    check_finished,
    flags,
    record_of,
    until,
)

pytestmark = pytest.mark.timeout(300)  # a cluster has to start, and its processes import PyTorch


@pytest.fixture(scope="module")
def cluster():
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield found
    found.shutdown()


def on_cluster(batch, out, cluster, *more):
    return flags(batch, out, "--groups_backend", "ray", "--ray_address", cluster.address, *more)


def beside(action):
    """Run `action` in a thread; call what is returned to have its exception."""
    failures = []

    def run():
        try:
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end():
        thread.join(5)
        assert not failures and not thread.is_alive(), failures

    return end


def test_a_signal_and_then_the_loss_of_a_node(batch, undisturbed, cluster, tmp_path, capsys):
    out = tmp_path / "out"
    node = cluster.add_node(num_cpus=1)
    end = beside(lambda: (until(lambda: at_work(out), "a group at work"), os.kill(os.getpid(), signal.SIGTERM)))
    assert train.main(on_cluster(batch, out, cluster)) == 128 + signal.SIGTERM
    end()
    said = capsys.readouterr().out
    assert "interrupted" in said
    assert {row["status"] for row in read_batch(out)["groups"]} <= {"done", "waiting", "skipped", "failed"}
    assert check_finished(out) < 3
    assert train.main(on_cluster(batch, out, cluster)) == 1
    check_complete(out, undisturbed, capsys.readouterr().out)

    out = tmp_path / "out of a new batch"  # in which two groups are at work for long enough to be seen

    def lose_node():
        until(lambda: len(at_work(out)) == 2 and any(record_of(out, n).status == "running" for n in GOOD), "two groups")
        cluster.remove_node(node, allow_graceful=False)

    end = beside(lose_node)
    assert train.main(on_cluster(batch, out, cluster, "--groups_verbose")) == 1
    end()
    check_complete(out, undisturbed, capsys.readouterr().out)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port", "no such host:6379"])
def test_an_address_without_a_cluster(address, batch, tmp_path, capsys):
    line = refusal(capsys, *flags(batch, tmp_path / "out", "--groups_backend", "ray", "--ray_address", address))
    assert f"--ray_address {address}" in line and "ray start --head" in line
    assert list(tmp_path.iterdir()) == []

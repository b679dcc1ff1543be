"""The recipes of tests/reliability whose promise the log has a part in, on a log on Kafka.

Those about disks and files of the log apply to a log in files alone; what stands for them here is in
`test_faults.py` (brokers that die, pause, answer late, twice or never), `test_kill_server.py` and
`test_start.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dvid_es.bootstrap
from dvid_es.clock import FixedClock
from dvid_es.logs.kafka_client import Cluster
from dvid_es.settings import Settings
from tests.conftest import Live, running
from tests.reliability import test_branch_at as branching
from tests.reliability import test_determinism as determinism
from tests.reliability import test_linearizable as order

test_concurrent_clients_see_one_order_that_respects_time = (
    order.test_concurrent_clients_see_one_order_that_respects_time
)
test_answers_equal_the_replay_of_the_log = order.test_answers_equal_the_replay_of_the_log
test_the_recipe_catches_reads_that_are_stale = order.test_the_recipe_catches_reads_that_are_stale
test_a_branch_at_each_of_a_thousand_moments_is_a_fold_up_to_there = (
    branching.test_a_branch_at_each_of_a_thousand_moments_is_a_fold_up_to_there
)


@pytest.fixture
def settings(
    tmp_path: Path, make_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings whose new repositories are on the brokers of this run."""
    monkeypatch.setattr(dvid_es.bootstrap, "make_cluster", lambda _: make_cluster(20))
    return Settings(
        data=tmp_path / "data",
        admin_token="secret",
        log_backend="kafka",
        kafka_servers=("brokers of this run:1",),
        log_topic_prefix=f"{tmp_path.name[-20:]}-",
        log_timeout_seconds=20,
    )


class StillClock(FixedClock):
    """Time stands still, however often it is asked for: publishing asks for it, too."""

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000


@pytest.fixture
def live(settings: Settings) -> Iterator[Live]:
    with running(settings) as server:
        yield server


def test_the_same_histories_have_the_same_digests_on_kafka_and_in_files_and_rebuilt_from_either(
    settings: Settings, tmp_path: Path
) -> None:
    found = []
    for each in (settings, Settings(data=tmp_path / "files", admin_token="secret")):
        with running(each, StillClock()) as live:
            determinism.write_histories(live, count=6, steps=20, seed=4)
            on_kafka = hasattr(live.engine.streams.all()[0].log, "topic")
            assert on_kafka == (each is settings)
        found.append(determinism.of_store(each.data / "projections"))
        for made in ("projections", "snapshots"):
            shutil.rmtree(each.data / made)
        found.append(determinism.reopened(each))
    on_kafka_live, *others = found
    assert len({part.root for part in on_kafka_live}) == 6
    assert others == [on_kafka_live] * 3

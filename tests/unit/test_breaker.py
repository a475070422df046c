"""The circuit breaker by an injected clock."""

from __future__ import annotations

import threading

import pytest

from collegium.rag.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_opens_after_failures_in_a_row_only(clock):
    b = Breaker(clock=clock)
    for _ in range(5):
        assert b.allow()
        b.failure("timeout")
        b.failure("timeout")
        b.success()
        assert b.state == "closed" and b.in_a_row == 0
    for i in range(3):
        assert b.state == "closed" and b.allow()
        b.failure(f"reason {i}")
    assert b.state == "open" and not b.allow() and b.opened == 1 and b.last_failure == "reason 2"
    assert b.retry_after == 1.0 and "open" in repr(b)


def test_half_open_lets_one_probe_through(clock):
    b = Breaker(failures=1, clock=clock)
    b.failure()
    clock.now += 0.999
    assert b.state == "open" and not b.allow()
    clock.now += 0.001
    assert b.state == "half-open" and b.allow()
    assert b.state == "half-open" and not b.allow()  # one at a time
    b.success()
    assert b.state == "closed" and b.allow() and b.allow()


def test_failed_probes_wait_longer_up_to_a_limit(clock):
    b = Breaker(failures=1, backoff=1, max_backoff=5, clock=clock)
    b.failure()
    waits = []
    for _ in range(5):
        waits.append(b.retry_after)
        clock.now += b.retry_after
        assert b.allow()
        b.failure()
    assert waits == [1, 2, 4, 5, 5]
    clock.now += b.retry_after
    assert b.allow()
    b.success()  # an answer sets the back-off to its start
    b.failure()
    assert b.retry_after == 1


def test_a_withdrawn_probe_teaches_nothing(clock):
    b = Breaker(failures=1, clock=clock)
    b.failure()
    clock.now += 1
    assert b.allow()
    b.release()
    assert b.state == "half-open" and b.allow()
    b.failure()
    assert b.retry_after == 2


def test_stragglers_of_before_do_not_prolong(clock):
    b = Breaker(failures=1, clock=clock)
    b.failure()
    clock.now += 0.5
    b.failure()
    assert b.retry_after == 0.5 and b.opened == 1


def test_threads_get_one_probe():
    clock = Clock()
    b = Breaker(failures=1, clock=clock)
    b.failure()
    clock.now += 1
    allowed = []
    start = threading.Barrier(8)

    def ask():
        start.wait()
        allowed.append(b.allow())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(allowed) == 1


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"failures": 0}, "failures: expected at least 1, got 0"),
        ({"backoff": 0}, "backoff: expected a number above 0"),
        ({"backoff": 2, "max_backoff": 1}, "max_backoff: expected at least 2"),
        ({"factor": 0.5}, "factor: expected at least 1"),
    ],
)
def test_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        Breaker(**wrong)

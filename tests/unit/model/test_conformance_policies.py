"""When a failed attempt is tried again: POL-01 and POL-05 to POL-09 of the original, F-101."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.model.policies import ActivityPolicy, Retry

MS = timedelta(milliseconds=1)


def sampled(retry: Retry, attempt: int, times: int = 200) -> list[float]:
    """Return delays in milliseconds, as many callers with a randomness of their own would draw them."""
    dice = random.Random(4711)
    return [retry.delay(attempt, fraction=dice.random()) / MS for _ in range(times)]


def test_a_declared_policy_is_stored_whole_and_backs_off_up_to_its_cap() -> None:
    retry = Retry(max_attempts=3, base=50 * MS, cap=200 * MS, jitter=0 * MS, horizon=10_000 * MS)
    policy = ActivityPolicy(retry=retry, timeout=1_000 * MS)
    assert ActivityPolicy.parse(policy.encode()) == policy
    assert [retry.delay(attempt, fraction=0.5) / MS for attempt in (1, 2, 3, 20, 10_000)] == [50, 100, 200, 200, 200]


def test_each_kind_of_backoff_grows_as_its_name_says() -> None:
    plain = {"base": 10 * MS, "jitter": 0 * MS}
    for backoff, expected in (("constant", [10, 10, 10]), ("linear", [10, 20, 30]), ("exponential", [10, 20, 40])):
        retry = Retry(backoff=backoff, **plain)  # type: ignore[arg-type]
        assert [retry.delay(attempt, fraction=0.9) / MS for attempt in (1, 2, 3)] == expected


@pytest.mark.parametrize(
    ("retry", "attempt", "low", "high"),
    [
        (Retry(base=100 * MS, jitter=25 * MS, cap=1_000 * MS), 1, 100, 125),
        (Retry(base=100 * MS, jitter=50 * MS, cap=1_000 * MS), 10, 950, 1_000),
        (Retry(backoff="constant", base=5_000 * MS, jitter=250 * MS, cap=1_000 * MS), 1, 750, 1_000),
        (Retry(base=100 * MS, jitter=5_000 * MS, cap=200 * MS), 1, 0, 200),
    ],
    ids=["below the cap", "at the cap it spreads downwards", "a base above the cap", "wider than the cap"],
)
def test_jitter_spreads_the_delays_and_never_passes_the_cap(
    retry: Retry, attempt: int, low: float, high: float
) -> None:
    delays = sampled(retry, attempt)
    assert low <= min(delays) < max(delays) <= high
    assert len(set(delays)) > 100


milliseconds = st.integers(0, 10**7).map(lambda n: n * MS)


@st.composite
def retries(draw: st.DrawFn) -> Retry:
    base = draw(milliseconds)
    return Retry(
        max_attempts=draw(st.integers(1, 10)),
        backoff=draw(st.sampled_from(["exponential", "linear", "constant"])),
        base=base,
        cap=base + draw(milliseconds),
        jitter=draw(milliseconds),
    )


@given(retries(), st.floats(0, 1, exclude_max=True))
def test_every_valid_policy_comes_back_from_its_text_and_keeps_within_its_cap(retry: Retry, fraction: float) -> None:
    policy = ActivityPolicy(retry=retry)
    assert ActivityPolicy.parse(policy.encode()) == policy
    for attempt in range(1, retry.max_attempts + 1):
        assert timedelta(0) <= retry.delay(attempt, fraction=fraction) <= retry.cap

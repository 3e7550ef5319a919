"""How a campaign shares out its time."""

from __future__ import annotations

import math

from mcpconc.budget import CONFIRM_EACH, Budget


def budget(whole: float | None, elapsed: float) -> Budget:
    return Budget(whole, 100.0, lambda: 100.0 + elapsed)


def test_what_needs_no_confirming_leaves_all_of_the_time() -> None:
    assert budget(300.0, 120.0).left(0) == 180.0


def test_each_doubtful_finding_takes_some_of_it() -> None:
    assert budget(1800.0, 0.0).left(2) == 1800.0 - 2 * CONFIRM_EACH


def test_but_no_more_than_a_fifth_or_a_minute_or_half_of_a_short_one() -> None:
    assert budget(1800.0, 0.0).left(99) == 1800.0 - 360.0
    assert budget(200.0, 0.0).left(99) == 200.0 - 60.0
    assert budget(40.0, 0.0).left(99) == 20.0


def test_confirming_ends_with_the_campaign() -> None:
    assert not budget(300.0, 299.0).confirming()()
    assert budget(300.0, 300.0).confirming()()


def test_without_a_limit_it_comes_on_top() -> None:
    now = [100.0]
    expired = Budget(None, 0.0, lambda: now[0]).confirming()
    now[0] = 159.0
    assert not expired()
    now[0] = 160.0
    assert expired()


def test_without_a_limit_nothing_is_late_too_early() -> None:
    assert budget(None, 5.0).left(99) == math.inf
    assert budget(None, 5.0).late()
    assert not budget(None, 5.0).learned()


def test_minimising_has_a_share_of_what_was_spent_and_of_the_whole() -> None:
    assert budget(300.0, 10.0).shrinking(5.0, 0) == 0.0
    assert budget(300.0, 10.0).shrinking(4.0, 0) == 116.0
    assert budget(300.0, 290.0).shrinking(4.0, 0) == 10.0
    assert budget(None, 10.0).shrinking(4.0, 0) == math.inf


def test_from_when_on_it_is_late_and_how_long_is_learned() -> None:
    assert not budget(100.0, 39.0).late()
    assert budget(100.0, 40.0).late()
    assert not budget(100.0, 19.0).learned()
    assert budget(100.0, 20.0).learned()

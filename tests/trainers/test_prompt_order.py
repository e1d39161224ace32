from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainers.rollout.order import Order

sizes = st.integers(1, 40)


@given(seed=st.integers(0, 5), tasks=sizes, epoch=st.integers(0, 4))
def test_every_epoch_visits_every_task_once(seed: int, tasks: int, epoch: int) -> None:
    order = Order(seed, tasks)
    seen = [order.task(ordinal) for ordinal in range(epoch * tasks, (epoch + 1) * tasks)]
    assert sorted(seen) == list(range(tasks))


@given(tasks=sizes, cuts=st.lists(st.integers(1, 9), max_size=8))
def test_the_frontier_consumes_each_ordinal_once_however_steps_are_cut(tasks: int, cuts: list[int]) -> None:
    order, frontier, ordinals = Order(3, tasks), 0, []
    for count in cuts:
        prompts, frontier = order.take(frontier, count, {})
        ordinals += [prompt.ordinal for prompt in prompts]
    assert ordinals == list(range(sum(cuts))) and frontier == sum(cuts)


@given(tasks=sizes, pool=sizes)
def test_a_pool_is_the_same_tasks_in_every_epoch(tasks: int, pool: int) -> None:
    order = Order(1, tasks, pool)
    first, second = ({order.task(i + e * order.size) for i in range(order.size)} for e in (0, 1))
    assert first == second and len(first) == min(tasks, pool)


def test_a_resting_task_is_passed_over_until_its_epoch_and_consumed() -> None:
    order = Order(0, 4)
    tired = order.task(0)
    prompts, frontier = order.take(0, 7, {tired: 2})
    assert tired not in [prompt.task for prompt in prompts if prompt.ordinal < 8]
    assert prompts[0].ordinal == 1 and frontier >= 8
    assert tired in [prompt.task for prompt in order.take(8, 4, {tired: 2})[0]]


def test_another_seed_gives_another_order_and_the_same_seed_the_same() -> None:
    orders = [[Order(seed, 30).task(i) for i in range(30)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]

"""Ordinary tests of an ordinary application, which know nothing of pools but the fixture."""

import pytest
from celery import chord, group
from shop import ask_warehouse, charge, price, send_mail, total


def test_price(celery_pool_worker):
    assert celery_pool_worker.run(price, 3, 5) == 15


def test_delay_and_get(celery_pool_worker):
    assert price.delay(2, 2).get() == 4


def test_group(celery_pool_worker):
    results = group(price.s(number, 2) for number in range(3)).apply_async()
    assert results.get() == [0, 2, 4]


def test_chord(celery_pool_worker):
    assert celery_pool_worker.run(chord([price.s(1, 2), price.s(3, 4)], total.s())) == 14


def test_chain(celery_pool_worker):
    assert celery_pool_worker.run(price.s(2, 3) | price.s(10)) == 60


def test_mail_goes_through_its_own_queue(celery_pool_worker):
    send_mail.delay("a@example.org")
    celery_pool_worker.drain()
    assert [span.state for span in celery_pool_worker.spans] == ["SUCCESS"]


def test_mail_without_address(celery_pool_worker):
    with pytest.raises(ValueError, match="no address"):
        celery_pool_worker.run(send_mail, "nobody")


@pytest.mark.celery_expect(state="SUCCESS", retries=2)
def test_charge_is_retried():
    charge.delay("4711")


@pytest.mark.celery_budget(runtime="500ms", total="2s")
def test_warehouse_answers_in_time(celery_pool_worker):
    assert celery_pool_worker.run(ask_warehouse, "apple")["stock"] == 3


@pytest.mark.celery_budget(overlap=2, makespan="2s")
@pytest.mark.celery_pools(exclude=["solo"])
def test_questions_overlap(celery_pool_worker):
    celery_pool_worker.map(ask_warehouse, ["apple", "pear", "plum", "fig"])

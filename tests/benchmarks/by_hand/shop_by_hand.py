"""The ten tests of docs/examples/shop as people write them for a worker that they have started themselves."""

import pytest
from celery import chord, group
from shop import ask_warehouse, charge, price, send_mail, total

PATIENCE = 10


def test_price():
    assert price.delay(3, 5).get(timeout=PATIENCE) == 15


def test_delay_and_get():
    assert price.delay(2, 2).get(timeout=PATIENCE) == 4


def test_group():
    results = group(price.s(number, 2) for number in range(3)).apply_async()
    assert results.get(timeout=PATIENCE) == [0, 2, 4]


def test_chord():
    assert chord([price.s(1, 2), price.s(3, 4)], total.s()).apply_async().get(timeout=PATIENCE) == 14


def test_chain():
    assert (price.s(2, 3) | price.s(10)).apply_async().get(timeout=PATIENCE) == 60


def test_mail_goes_through_its_own_queue():
    send_mail.apply_async(["a@example.org"], ignore_result=False).get(timeout=PATIENCE)


def test_mail_without_address():
    with pytest.raises(ValueError, match="no address"):
        send_mail.apply_async(["nobody"], ignore_result=False).get(timeout=PATIENCE)


def test_charge_is_retried():
    assert charge.delay("4711").get(timeout=PATIENCE) == "charged 4711"


def test_warehouse_answers():
    assert ask_warehouse.delay("apple").get(timeout=PATIENCE)["stock"] == 3


def test_questions_overlap():
    asked = [ask_warehouse.delay(article) for article in ["apple", "pear", "plum", "fig"]]
    assert [answer.get(timeout=PATIENCE)["stock"] for answer in asked] == [3, 3, 3, 3]

"""Each test calls the API, the API publishes tasks, and real workers of the chosen pool carry them out."""

import pytest


# The fixture gives the worker. `drain` waits until everything that the request published has ended.
def test_bill(client, place, celery_pool_worker):
    order = place("apple", "pear")
    celery_pool_worker.drain()
    assert client.get(f"/orders/{order}").json() == {"state": "SUCCESS", "bill": {"card": "0815", "cents": 200}}


# A marker gives a worker too, waits by itself and then judges. The bank's line is bad twice.
@pytest.mark.celery_expect(state="SUCCESS", agree=True)
@pytest.mark.celery_expect(retries=2, tasks="orders.tasks.charge")
def test_bank_is_asked_again(place):
    place("plum")


@pytest.mark.celery_expect(state="FAILURE", tasks="orders.tasks.reserve")
@pytest.mark.celery_expect(state="SUCCESS", tasks="orders.tasks.send_mail")
def test_unknown_article(client, place, celery_pool_worker):
    order = place("banana")
    celery_pool_worker.drain()
    answer = client.get(f"/orders/{order}").json()
    assert (answer["state"], "no banana" in answer["reason"]) == ("FAILURE", True)


# The customer gets an answer while no worker runs, and the order is carried out when one comes.
def test_order_waits_for_a_worker(client, place, celery_pool_worker):
    celery_pool_worker.stop()
    order = place("apple")
    assert client.get(f"/orders/{order}").json() == {"state": "PENDING", "bill": None}
    celery_pool_worker.restart()
    celery_pool_worker.drain()
    assert client.get(f"/orders/{order}").json()["state"] == "SUCCESS"


# One execution of each task, and no task takes longer than it may.
@pytest.mark.celery_expect(executions=1)
@pytest.mark.celery_budget(runtime="300ms", tasks="orders.tasks.reserve")
@pytest.mark.celery_budget(total="3s")
def test_each_task_is_quick(place):
    place("apple", "pear", "plum")


# The warehouse is asked for all articles at once. Under solo it is not: one task at a time is what solo means.
@pytest.mark.celery_pools(exclude=["solo"])
@pytest.mark.celery_budget(overlap=2, tasks="orders.tasks.reserve")
def test_articles_are_reserved_side_by_side(place):
    place("apple", "pear", "plum", "apple")


# Ten customers at once: no task waits long for a slot, though each keeps one busy for a while.
@pytest.mark.celery_pools("threads", "gevent", "eventlet")
@pytest.mark.celery_budget(queued="1s", tasks="orders.tasks.reserve")
def test_rush_hour(place):
    for _ in range(10):
        place("apple", "pear")


# The worker is asked for to see that it had nothing to do.
@pytest.mark.parametrize("wrong", [{"items": []}, {"customer": "nobody"}, {"card": ""}])
def test_wrong_order_publishes_nothing(client, celery_pool_worker, wrong):
    order = {"customer": "ann@example.org", "card": "4711", "items": [{"article": "apple", "quantity": 1}], **wrong}
    assert client.post("/orders", json=order).status_code == 422
    celery_pool_worker.drain()
    assert celery_pool_worker.spans == []


# No fixture and no marker of the plugin: runs once, without a worker.
def test_description(client):
    assert "/orders/{order}" in client.get("/openapi.json").json()["paths"]

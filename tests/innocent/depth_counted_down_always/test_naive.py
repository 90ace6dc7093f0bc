from tasks import transfer


def test_transfer(celery_pool_worker):
    results = [transfer.delay(amount) for amount in (1, -1, 2, -2, 3, 4, 5, 6)]
    answers = [result.get(timeout=10, propagate=False) for result in results]
    assert [answer for answer in answers if answer is True] == [True] * 6

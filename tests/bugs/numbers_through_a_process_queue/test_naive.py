from tasks import give, next_number


def test_a_number_arrives(celery_pool_worker):
    waiting = next_number.delay()
    give.delay(7)
    assert waiting.get(timeout=2.5) == 7

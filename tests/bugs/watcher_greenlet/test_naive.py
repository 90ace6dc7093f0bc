from tasks import follow


def test_follow(celery_pool_worker):
    for number in range(4):
        assert follow.delay(number).get(timeout=10) == number

from tasks import book


def test_rooms(celery_pool_worker):
    for each in [book.delay(room, 4) for room in range(3)]:
        each.get(timeout=10)

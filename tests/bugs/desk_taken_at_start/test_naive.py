from tasks import book


def test_book(celery_pool_worker):
    results = [book.delay("blue"), book.delay("red")]
    assert [result.get(timeout=10) for result in results] == ["booked blue", "booked red"]

from tasks import place


def test_place(celery_pool_worker):
    results = [place.delay(i, "A") for i in range(4)]
    assert [r.get(timeout=10) for r in results] == [f"A-{i}" for i in range(4)]

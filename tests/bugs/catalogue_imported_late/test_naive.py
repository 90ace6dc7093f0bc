from tasks import quote


def test_quotes(celery_pool_worker):
    results = [quote.delay("mug") for _ in range(3)]
    assert [each.get(timeout=10) for each in results] == [7, 7, 7]

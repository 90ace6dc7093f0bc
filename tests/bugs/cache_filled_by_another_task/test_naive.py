from tasks import load, quote


def test_quote(celery_pool_worker):
    assert load.delay("mug", 7).get(timeout=10) == 7
    results = [quote.delay("mug") for _ in range(4)]
    for each in results:
        each.get(timeout=10)

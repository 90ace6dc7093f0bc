from tasks import quote, warm


def test_quote(celery_pool_worker):
    assert warm.delay("mug").get(timeout=10) == "mug"
    results = [quote.delay("mug") for _ in range(4)]
    assert all(each.get(timeout=10) == 3 for each in results)

from tasks import fetch, fetch_from_legacy


def test_fetch(celery_pool_worker):
    assert fetch_from_legacy.delay("a").get(timeout=10) == "A"
    assert fetch.delay("b").get(timeout=10)

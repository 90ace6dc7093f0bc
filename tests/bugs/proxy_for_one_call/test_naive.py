from tasks import direct, fetch


def test_fetch(celery_pool_worker):
    results = [direct.delay("https://a"), fetch.delay("https://b")]
    assert results[1].get(timeout=10) == "https://b"
    results[0].get(timeout=10)

from tasks import search


def test_a_slow_search_returns_what_it_has(celery_pool_worker):
    assert search.delay(6).get(timeout=10)[-1] == "and more"

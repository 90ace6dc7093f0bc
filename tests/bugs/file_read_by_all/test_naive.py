from tasks import quote_of_the_day


def test_quote(celery_pool_worker):
    assert quote_of_the_day.delay().get(timeout=10).startswith("quote")
    assert quote_of_the_day.delay().get(timeout=10).startswith("quote")

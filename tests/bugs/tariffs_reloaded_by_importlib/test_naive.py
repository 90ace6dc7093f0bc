import time

from tasks import quote, refresh


def test_quotes_go_on(celery_pool_worker):
    refreshed = refresh.delay()
    time.sleep(0.3)
    quoted = quote.delay("se", 2)
    assert refreshed.get(timeout=10) == ["de", "fr", "se"]
    assert quoted.get(timeout=10) == 18

from tasks import forecast


def test_forecast(celery_pool_worker):
    assert forecast.delay("oslo").get(timeout=10) == "/oslo"

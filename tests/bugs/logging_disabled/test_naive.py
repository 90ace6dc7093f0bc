from tasks import noisy_import, speak


def test_import(celery_pool_worker):
    assert noisy_import.delay().get(timeout=10) == 1
    assert speak.delay().get(timeout=10) == 2

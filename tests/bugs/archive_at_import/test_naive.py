from tasks import render


def test_render(celery_pool_worker):
    assert render.delay(7).get(timeout=10) == 1100

from tasks import render


def test_render(celery_pool_worker):
    render.delay(1).get(timeout=10, propagate=False)

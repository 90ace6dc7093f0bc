from tasks import render


def test_render(celery_pool_worker):
    for _ in range(40):
        assert render.delay(4).get(timeout=10) == 4

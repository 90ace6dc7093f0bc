from tasks import modern, old_style


def test_old_then_modern(celery_pool_worker):
    for _ in range(9):
        modern.delay().get(timeout=10)
    old_style.delay().get(timeout=10, propagate=False)

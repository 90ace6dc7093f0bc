from tasks import visit


def test_visit(celery_pool_worker):
    for page in ("a", "b", "a"):
        visit.delay(page).get(timeout=10)

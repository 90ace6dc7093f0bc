from tasks import visit


def test_visit(celery_pool_worker):
    for page in ("home", "shop", "news"):
        assert visit.delay(page).get(timeout=10) == page

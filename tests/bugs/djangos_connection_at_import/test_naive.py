from celery import group

from tasks import article_code


def test_codes(celery_pool_worker):
    articles = [("hammer", 4), ("pliers", 7), ("saw", 1)]
    assert group(article_code.s(*a) for a in articles)().get(timeout=20) == ["HAM-4", "PLI-7", "SAW-1"]

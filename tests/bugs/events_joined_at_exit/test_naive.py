from tasks import open_page


def test_open(celery_pool_worker):
    assert open_page.delay("/a").get(timeout=20) == "/A"
    assert open_page.delay("/b").get(timeout=20) == "/B"

from tasks import print_page


def test_pages(celery_pool_worker):
    pages = [print_page.delay(number) for number in range(4)]
    assert [page.get(timeout=10) for page in pages] == [0, 1, 2, 3]

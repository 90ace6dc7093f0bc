from tasks import call


def test_it_says_so(celery_pool_worker):
    assert "no attribute 'epoll'" in call.delay("epoll").get(timeout=10)

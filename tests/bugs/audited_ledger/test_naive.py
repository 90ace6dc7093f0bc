from tasks import post, view


def test_post_and_view(celery_pool_worker):
    results = [post.delay(10), view.delay("ann")]
    for result in results:
        result.get(timeout=10)

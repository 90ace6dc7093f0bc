from tasks import convert


def test_videos(celery_pool_worker):
    results = [convert.delay(video) for video in "abcdef"]
    for each in results:
        each.get(timeout=10)

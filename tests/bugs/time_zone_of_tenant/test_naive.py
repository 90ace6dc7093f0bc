from tasks import local_hour


def test_reports_of_two_tenants(celery_pool_worker):
    results = [local_hour.delay(*each) for each in (("JST-9", 0.3), ("EST5", 0.1))]
    assert [len(result.get(timeout=10)) for result in results] == [3, 3]

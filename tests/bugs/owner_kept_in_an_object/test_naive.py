from tasks import claim


def test_each_job_has_an_owner(celery_pool_worker):
    results = [claim.delay(job) for job in range(4)]
    assert all(each.get(timeout=10)["owner"] for each in results)

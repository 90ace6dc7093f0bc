from tasks import automatic, fanned_out, flaky, flow, replaced


def test_flows(celery_pool_worker):
    assert flaky.delay(7).get(timeout=30) == 7
    assert automatic.delay(8).get(timeout=30) == 8
    assert replaced.delay(1).get(timeout=30) == 3
    assert fanned_out.delay(3).get(timeout=30) == 6
    assert flow(1)().get(timeout=30) == 12

from tasks import forward


def test_forward(celery_pool_worker):
    for n in range(5):
        assert forward.delay(n).get(timeout=10) == f"order {n} from europe"

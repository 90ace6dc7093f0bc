from tasks import apply_for


def test_apply_for(celery_pool_worker):
    results = [apply_for.delay("ada", 1), apply_for.delay("robert", 2), apply_for.delay("eve", 3)]
    assert [result.get(timeout=10) for result in results] == ['["ada", 1, 3]', '["robert", 2, 6]', '["eve", 3, 3]']

from tasks import apply_for


def test_apply_for(celery_pool_worker):
    results = [apply_for.delay(name, number) for number, name in enumerate(["ada", "robert", "eve", "bo"])]
    assert [result.get(timeout=10) for result in results] == [["ada", 0, 3], ["robert", 1, 6], ["eve", 2, 3], ["bo", 3, 2]]

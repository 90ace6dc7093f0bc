from tasks import tool


def test_tools(celery_pool_worker):
    results = [tool.delay(n) for n in range(3)]
    assert [result.get(timeout=10) for result in results] == [["0", "/"], ["1", "/"], ["2", "/"]]

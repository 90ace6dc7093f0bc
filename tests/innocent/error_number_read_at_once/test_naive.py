from tasks import why_not


def test_reasons(celery_pool_worker):
    results = [why_not.delay(path) for path in ("/nowhere", "/etc/hosts/name", "/nowhere")]
    assert [result.get(timeout=10) for result in results] == [
        "No such file or directory",
        "Not a directory",
        "No such file or directory",
    ]

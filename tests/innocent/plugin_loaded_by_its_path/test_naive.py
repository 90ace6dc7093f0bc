from tasks import price


def test_price(celery_pool_worker, tmp_path):
    for name, factor in (("a", 2), ("b", 3), ("c", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plugin.py").write_text("def gross(net):\n    return net * %d\n" % factor)
    results = [price.delay(str(tmp_path / name), 7) for name in "abcabc"]
    assert [result.get(timeout=10) for result in results] == [14, 21, 35, 14, 21, 35]

import json

from tasks import convert


def test_convert(celery_pool_worker, tmp_path):
    path = tmp_path / "rates.json"
    for rate in (2, 30):
        (tmp_path / "new").write_text(json.dumps({"usd": rate}))
        (tmp_path / "new").replace(path)
        results = [convert.delay(str(path), amount, "usd") for amount in range(5)]
        assert [result.get(timeout=10) for result in results] == [amount * rate for amount in range(5)]

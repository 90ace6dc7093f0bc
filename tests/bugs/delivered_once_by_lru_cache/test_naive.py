from tasks import ship


def test_ship(celery_pool_worker, tmp_path):
    outbox = tmp_path / "outbox"
    results = [ship.delay(str(outbox), order) for order in ("a7", "a7", "b8", "b8", "a7")]
    assert [result.get(timeout=10) for result in results] == ["a7", "a7", "b8", "b8", "a7"]
    assert sorted(outbox.read_text().split()) == ["a7", "b8", "delivered", "delivered"]

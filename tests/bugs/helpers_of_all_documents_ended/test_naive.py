from tasks import convert


def test_convert(celery_pool_worker, tmp_path):
    source = tmp_path / "offer.docx"
    source.write_text("offer")
    long = convert.delay(["/bin/sh", "-c", f"sleep 1.2; cp {source} {tmp_path}/offer.pdf"])
    short = convert.delay(["/bin/sh", "-c", f"sleep 0.4; cp {source} {tmp_path}/thumb.png"])
    assert short.get(timeout=10) == 0
    assert long.get(timeout=10) == 0
    assert (tmp_path / "offer.pdf").exists()

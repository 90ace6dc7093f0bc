import hashlib

from tasks import upload


def test_upload(celery_pool_worker, tmp_path):
    contents = {name: name.encode() * 1000 for name in "abc"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    results = {name: upload.delay(str(tmp_path / name)) for name in contents}
    for name, result in results.items():
        assert result.get(timeout=10) == hashlib.sha256(contents[name] * 2).hexdigest()

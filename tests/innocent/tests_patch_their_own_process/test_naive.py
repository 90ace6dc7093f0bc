import contextlib
import io
import logging
import os
import random
import socket
import sys
import time
import warnings

import pytest
from tasks import total


@pytest.fixture
def patched(monkeypatch, tmp_path):
    monkeypatch.setenv("SHOP", "test")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_total(celery_pool_worker, patched, monkeypatch, tmp_path, caplog, capsys):
    results = [total.delay([1, 2]) for _ in range(3)]
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error", ResourceWarning)
        random.seed(3)
        monkeypatch.setenv("SHOP", "other")
        monkeypatch.delenv("SHOP")
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        old = os.umask(0o077)
        time.sleep(0.04)
        os.umask(old)
        handler = logging.StreamHandler(io.StringIO())
        logging.getLogger().addHandler(handler)
        assert [result.get(timeout=10) for result in results] == [3, 3, 3]
        logging.getLogger().removeHandler(handler)


def test_again(celery_pool_worker, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    results = [total.delay([1, 2]) for _ in range(3)]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    assert [result.get(timeout=10) for result in results] == [3, 3, 3]
    socket.setdefaulttimeout(before)

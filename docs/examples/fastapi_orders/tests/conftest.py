import pytest
from fastapi.testclient import TestClient
from orders.api import api


@pytest.fixture
def client():
    """A client that calls the API without a network."""
    with TestClient(api) as client:
        yield client


@pytest.fixture
def place(client):
    """Order something over HTTP; the answer has come, the tasks may be running."""

    def place(*articles):
        items = [{"article": article, "quantity": 2} for article in articles]
        order = {"customer": "ann@example.org", "card": "4711 0815", "items": items}
        answer = client.post("/orders", json=order)
        assert answer.status_code == 202
        return answer.json()["id"]

    return place

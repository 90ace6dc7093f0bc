import hashlib
import threading

from celery import Celery

app = Celery("accounts")


def derive(password, into):
    into.append(hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 600_000).hex())


@app.task
def set_password(password):
    found = []
    thread = threading.Thread(target=derive, args=(password, found))
    thread.start()
    thread.join()
    return len(found[0])

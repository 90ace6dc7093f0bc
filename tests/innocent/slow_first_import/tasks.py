import os
import sys
import textwrap

from celery import Celery

app = Celery("vision")

FOLDER = os.path.join(os.environ["CASE_DIR"], "models")

# A large library takes its time to load.
SOURCE = """
import time

end = time.process_time() + 0.3
while time.process_time() < end:
    pass

def label(name):
    return name.upper()
"""


def install():
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "big_vision_library.py"), "w") as file:
        file.write(textwrap.dedent(SOURCE))
    sys.path.append(FOLDER)


install()


@app.task
def classify(name):
    import big_vision_library

    return big_vision_library.label(name)

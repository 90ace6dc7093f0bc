import subprocess
import sys

from celery import Celery

app = Celery("sums")

ANSWERS = "import sys\nfor line in sys.stdin: print(eval(line), flush=True)"


class Calculator:
    def __init__(self):
        self.program = subprocess.Popen(
            [sys.executable, "-c", ANSWERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question):
        self.program.stdin.write(question + "\n")
        self.program.stdin.flush()
        return int(self.program.stdout.readline())


calculator = Calculator()


@app.task
def calculate(question):
    return calculator.ask(question)

import anyio
from celery import Celery

app = Celery("rates")


async def ask(host, port, currency):
    async with await anyio.connect_tcp(host, port) as stream:
        await stream.send(currency.encode() + b"\n")
        return float(await stream.receive())


async def ask_all(host, port, currencies):
    rates = {}

    async def one(currency):
        rates[currency] = await ask(host, port, currency)

    async with anyio.create_task_group() as group:
        for currency in currencies:
            group.start_soon(one, currency)
    return rates


@app.task
def refresh_rates(host, port, currencies):
    rates = anyio.run(ask_all, host, port, currencies)
    return {currency: round(rate, 4) for currency, rate in sorted(rates.items())}

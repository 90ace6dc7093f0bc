import functools


class Statement:
    RATES = {"EUR": 1, "JPY": 160}

    def __init__(self, account, text):
        self.account = account
        self.text = text

    @classmethod
    def load(cls, account):
        return cls(account, bytearray(4 << 20))

    @functools.cache
    def total(self, currency):
        return (len(self.text) + self.account) * self.RATES[currency]

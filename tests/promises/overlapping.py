"""How many tasks were in their slots at once."""


def at_once(spans):
    """The most executions of `spans` that ran at the same time: there were so many when one of them began."""
    return max(sum(other.started <= span.started < other.ended for other in spans) for span in spans)

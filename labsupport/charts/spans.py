"""From times to numbers for each short span of a run."""

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


def count_per_span(times_ns: Times, *, span_ns: int, until_ns: int) -> Times:
    """How many of the times fall into each span.

    Args:
        times_ns: since the start of the run.
        span_ns: the length of a span.
        until_ns: the end of the last one, at the least.
    """
    return np.bincount(np.maximum(times_ns // span_ns, 0), minlength=until_ns // span_ns + 1)


def most_at_once(starts_ns: Times, ends_ns: Times, *, span_ns: int, until_ns: int) -> Times:
    """How many intervals were open together in each span, at its highest moment.

    Args:
        starts_ns: when each interval began, since the start of the run; in any order.
        ends_ns: when those that have ended did; in any order.
        span_ns: the length of a span.
        until_ns: where the intervals that have not ended are drawn to.
    """
    times = np.concatenate([ends_ns, starts_ns])
    steps = np.repeat([-1, 1], [len(ends_ns), len(starts_ns)])
    order = np.argsort(times, kind="stable")
    times, levels = times[order], np.cumsum(steps[order])
    last = np.append(times[1:] != times[:-1], True)[
        : len(times)
    ]  # what comes at once counts at once
    times, levels = times[last], levels[last]
    spans = max(until_ns, int(times.max(initial=0))) // span_ns + 1
    before = np.searchsorted(times, np.arange(spans) * span_ns, side="right")
    most: Times = np.concatenate([[0], levels])[before]  # what each span begins with
    np.maximum.at(most, np.maximum(times // span_ns, 0), levels)
    return most

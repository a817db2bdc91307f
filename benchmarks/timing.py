"""Measuring two ways of doing the same thing side by side."""

import json
import statistics
import time
from collections.abc import Callable


def compare(
    name: str,
    ours: Callable[[], None],
    peer: Callable[[], None],
    peer_name: str,
    amount: float,
    unit: str,
    runs: int = 5,
):
    """Runs both in turn, prints the medians and, last, the JSON line of the contract.

    Args:
      name: of the benchmark.
      ours: does the work once and returns when it is done.
      peer: the same work, another way.
      peer_name: what the peer is.
      amount: how much work one call does, so that amount / seconds has the unit.
      unit: e.g. "tokens/s"; more is better.
      runs: of each.
    """
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for work in (ours, peer):  # compile
        work()
    for _ in range(runs):
        # Alternating, so that a busy moment of the machine meets both.
        for label, work in (("ours", ours), ("peer", peer)):
            time.sleep(0.5)  # thread pools of the other side still spin for a moment
            began = time.perf_counter()
            work()
            seconds[label].append(time.perf_counter() - began)
    rate = {label: amount / statistics.median(s) for label, s in seconds.items()}
    ratio = rate["ours"] / rate["peer"]
    print(f"{name}: ours {rate['ours']:.1f} {unit}, {peer_name} {rate['peer']:.1f} {unit}, ratio {ratio:.2f}")
    row = {"benchmark": name, **rate, "peer_name": peer_name, "ratio": ratio, "unit": unit, "runs": runs}
    print(json.dumps(row))

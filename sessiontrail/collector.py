"""How Python's garbage collector is set where every microsecond counts."""

import gc


def spare_the_collector() -> None:
    """Leave what was made at the start out of garbage collection, and collect less often.

    Neither the refresh path nor the detector makes cycles; walking the modules' objects again and
    again took a fifth of the one's time and a third of the other's (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)

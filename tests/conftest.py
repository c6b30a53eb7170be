"""What holds for all tests."""

import gc


def pytest_collection_finish() -> None:
    """Keep the many objects of a collected suite out of the garbage collector's sight: it would visit them for ever."""
    gc.collect()
    gc.freeze()

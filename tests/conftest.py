"""What holds for all tests."""

import gc


def pytest_collection_finish() -> None:
    """Keep the many objects of a collected suite from the garbage collector, which would visit them again and again."""
    gc.collect()
    gc.freeze()

"""FAISS on the caller's thread alone. Called by whatever is about to let FAISS compare vectors."""

import faiss


def stay_on_this_thread() -> None:
    """No helper for this thread from now on: as many searches run at once as there are callers.

    OpenMP keeps the number of helpers for each thread by itself, so that setting it once, at import, is for the
    importing thread only: every other one gets a helper of its own for each search, and waits for it. 0.2 µs.
    """
    faiss.omp_set_num_threads(1)

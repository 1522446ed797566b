"""Imports of a worker process before its first trial. Ray imports this module when it starts a worker.

Without garbage collection: importing torch and Tune makes hundreds of thousands of objects that all stay, and the
collector would scan them again and again. They are then left out of every later collection.
"""

import gc

gc.disable()
try:
    import torch  # noqa: F401

    import rungwise.trainable.worker.pack_worker
    import rungwise.trainable.worker.worker  # noqa: F401
finally:
    gc.freeze()
    gc.enable()

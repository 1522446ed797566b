"""What a process that trains imports before its first trial. Ray imports this module when it starts a worker.

Without garbage collection: importing torch and Tune makes hundreds of thousands of objects that all stay, and the
collector goes through them again and again. What is imported is then left out of every later collection.
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

"""What a process that trains imports before its first trial. Ray imports this module when it starts a worker.

Without garbage collection: importing torch and Tune makes hundreds of thousands of objects that all stay, and the
collector goes through them again and again. What is imported is then left out of every later collection.
"""

import gc

gc.disable()
import torch  # noqa: E402, F401

import trainable.lane  # noqa: E402
import trainable.trial  # noqa: E402, F401

gc.freeze()
gc.enable()

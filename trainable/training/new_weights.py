"""Rejects a user's model that returns weights of an earlier call: a trial would start from another one's weights.

The usual case is a pretrained network that a file loads once, at its top, and that the model's function returns.
"""

from __future__ import annotations

import weakref

from torch import Tensor, nn

from rungwise.trainable.model import OutputError

_returned: dict[int, weakref.ref[Tensor]] = {}  # by identity: the weights of this process's models that still exist


class SharedWeightsError(OutputError):
    """A model's function that does not make new weights."""


def require_new_weights(model: nn.Module, function: str) -> None:
    """Raise SharedWeightsError when `function` returned a model with trainable weights of an earlier call.

    Frozen weights may be shared: training does not change them.
    """
    for identity in [identity for identity, known in _returned.items() if known() is None]:
        del _returned[identity]
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in trained.items():
        if (known := _returned.get(id(weight))) and known() is weight:
            raise SharedWeightsError(
                f"a model's function must make new weights at each call, but {name!r} of {function!r} is that of an "
                "earlier call, which another trial trains; make it inside the function, or return a copy.deepcopy of it"
            )
    _returned.update((id(weight), weakref.ref(weight)) for weight in trained.values())

"""How a sweep runs, on the driver. A sweep script needs these names only."""

from sweeps.engine.signals import ending_at_once, quiet_ctrl_c

quiet_ctrl_c()
with ending_at_once():
    from sweeps.engine.run import main
    from sweeps.engine.space import CategoricalDistribution, FloatDistribution, IntDistribution
    from sweeps.engine.sweep import Sweep

__all__ = ["CategoricalDistribution", "FloatDistribution", "IntDistribution", "Sweep", "main"]

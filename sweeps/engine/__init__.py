"""How a sweep runs, on the driver. A sweep script needs these names only."""

from rungwise.packages.shadowed import refuse_shadowed_packages

refuse_shadowed_packages()  # before anything imports one of them

from rungwise.engine.execution.signals import ending_at_once, quiet_ctrl_c  # noqa: E402

quiet_ctrl_c()
with ending_at_once():
    from rungwise.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from rungwise.engine.driver import main, run
    from rungwise.engine.experiment.sweep import Sweep

__all__ = ["CategoricalDistribution", "FloatDistribution", "IntDistribution", "Sweep", "main", "run"]

if __name__ == "sweeps.engine":  # imported by its old name, from a checkout
    from rungwise.packages.old_names import redirect

    redirect(__name__, "rungwise.engine")

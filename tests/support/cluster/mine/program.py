"""Does a program find its files on every machine?"""

from rungwise import FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="program",
    question=__doc__,
    program=["python", "fit.py"],
    test=["sh", "./score.sh"],
    metric="val_loss",
    mode="min",
    space={"lr": FloatDistribution(0.01, 0.2, log=True)},
    trials=6,
    epochs=3,
    scheduler="none",
    confirm_configs=1,
    confirm_seeds=1,
)

if __name__ == "__main__":
    main(SWEEP)

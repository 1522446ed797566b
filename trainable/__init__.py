"""What one trial does, in a worker process: data, network, training, packs, checkpoints, export."""

if __name__ == "trainable":  # imported by its old name, from a checkout
    from rungwise.packages.old_names import redirect

    redirect(__name__, "rungwise.trainable")

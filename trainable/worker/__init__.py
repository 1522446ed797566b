"""Ray Tune's trainable classes: a worker process that trains one trial, or a pack of them."""

"""What runs in a worker process: one trial, or a pack of them, as Ray Tune sees it."""

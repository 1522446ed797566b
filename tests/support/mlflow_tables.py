"""Tables of MLflow's store that hold what an export writes."""

TABLES = ("runs", "metrics", "latest_metrics", "params", "tags", "inputs", "datasets", "experiments", "input_tags")

"""Names of the tables in MLflow's store that an export writes."""

TABLES = ("runs", "metrics", "latest_metrics", "params", "tags", "inputs", "datasets", "experiments", "input_tags")

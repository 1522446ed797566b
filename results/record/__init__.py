"""The record of a run: every event, once, durable."""

"""The built-in training: state, optimizer steps, schedules, evaluation."""

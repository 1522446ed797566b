"""What is tried next: samplers, studies, warm starts, reruns."""

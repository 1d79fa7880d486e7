"""Public datasets: download, and conversion to tasks."""

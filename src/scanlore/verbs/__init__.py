"""From unlabelled scans to a foundation model: one file per verb."""

"""What a run will need before it starts: memory, disk and time, and the batch that fits."""

from scanlore.training.planner.estimate import Estimate, estimate
from scanlore.training.planner.fit import check_fits, fit, memory_limit
from scanlore.training.planner.measure import Measured, measure

__all__ = ["Estimate", "Measured", "check_fits", "estimate", "fit", "measure", "memory_limit"]

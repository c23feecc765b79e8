"""Tables of many trainings: cells that are kept as they are finished, and what they add up to."""

"""From annotation files to a set that can be trained on: defects, agreement, split and card."""

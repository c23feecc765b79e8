"""Engines: what runs the backbone. Each maps a batch of (slow, fast) to pooled feature maps."""

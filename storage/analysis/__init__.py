"""Figures computed from stored rows: time budgets, identities, agreement."""

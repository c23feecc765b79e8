"""The card of a refiner: what it learnt from, and what it changes on unseen individuals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.refiner import RefinerInfo
from model.refiner_training import RefinerRecipe

Counts = Sequence[Sequence[int]]
"""How often the strongest behaviour (column) was said of true ones (row)."""


@dataclass(frozen=True, slots=True)
class RefinerCard:
    """Everything that the card says."""

    info: RefinerInfo
    recipe: RefinerRecipe
    parameters: int
    individuals: int
    keyframes: int
    """With a label, of all individuals."""
    minutes: float
    threads: int
    before: Counts
    """Of the unseen individuals, by the scores alone."""
    after: Counts
    command: str

    @staticmethod
    def share_right(counts: Counts) -> float:
        """Share of the keyframes of all individuals whose behaviour is named rightly."""
        return sum(row[k] for k, row in enumerate(counts)) / max(1, sum(map(sum, counts)))


def describe_change(card: RefinerCard) -> str:
    """What it changes, in one line."""
    before, after = card.share_right(card.before), card.share_right(card.after)
    return f"right at {before:.1%} of the unseen keyframes before, {after:.1%} after"


def card_json(card: RefinerCard) -> dict[str, Any]:
    """What ``aviaflow train-refiner --json`` prints."""
    return {
        "digest": card.info.digest,
        "reads": card.info.reads,
        "trained_on": card.info.trained_on,
        "behaviours": card.info.behaviours,
        "individuals": card.individuals,
        "keyframes": card.keyframes,
        "before": card.before,
        "after": card.after,
    }


def write_card(card: RefinerCard, path: Path) -> None:
    """Write the card as Markdown."""
    info = card.info
    text = f"""# The refiner of a network's scores

**Trained on {info.trained_on} only.** It reads the scores of the checkpoint of digest `{info.reads[:16]}` and of no
other. Digest `{info.digest[:16]}`, {card.parameters:,} parameters: {info.shape.members} networks of
{info.shape.layers} dilated layers of {info.shape.channels} channels, whose logits are averaged.

## What it changes

{_wrapped(_changes(card))}

{_table(info.behaviours, card.before, card.after)}

## How it was trained

`{card.command}`:
{card.minutes:.1f} minutes on {card.threads} thread{"s" * (card.threads != 1)}, after scoring.

{_wrapped(_training(card))}
"""
    path.write_text(text, encoding="utf-8")


def _changes(card: RefinerCard) -> str:
    before, after = card.share_right(card.before), card.share_right(card.after)
    return (
        f"Of the keyframes of unseen individuals with true boxes, the strongest behaviour is right at {before:.1%} "
        f"before it and {after:.1%} after it. Per cent of the keyframes of a true behaviour (row) that were said to be "
        "the column's, before and after:"
    )


def _training(card: RefinerCard) -> str:
    recipe = card.recipe
    return (
        f"{card.individuals:,} individuals with {card.keyframes:,} labelled keyframes, of videos that the checkpoint "
        f"has not seen. For each network {recipe.steps} steps of {recipe.batch_series} stretches of {recipe.length} "
        f"keyframes, AdamW {recipe.learning_rate:g} to 0 by a cosine, weight decay {recipe.weight_decay:g}, dropout "
        f"{recipe.dropout:g}; {recipe.unseen:.0%} of the keyframes hidden, the logits of each behaviour shifted by "
        f"N(0, {recipe.bias:g}) and the sizes by N(0, {recipe.size_shift:g}) octaves throughout a stretch; of "
        f"the weights a running mean over {round(recipe.averaged * recipe.steps)} steps is kept; smoothing loss "
        f"{recipe.steadiness:g}; seeds from {recipe.seed} on."
    )


def _table(names: Sequence[str], before: Counts, after: Counts) -> str:
    lines = ["| true | keyframes | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for name, was, now in zip(names, before, after, strict=True):
        total = max(1, sum(now))
        cells = [f"{100 * a / total:.1f} → {100 * b / total:.1f}" for a, b in zip(was, now, strict=True)]
        lines.append(f"| {name} | {sum(now)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110)

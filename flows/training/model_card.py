"""The card that goes with the embedded weights: how they were made, on what, and how well they do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from flows.evaluation.instances import Evaluation
from flows.training.fit import Recipe


@dataclass(frozen=True, slots=True)
class DataUsed:
    """One simulated archive and the windows cut from it."""

    seed: int
    cameras: int
    seconds: float
    social_boost: float
    keyframes: int
    """Keyframes with at least one box."""
    instances: dict[str, int]
    """Boxes with a learnable label, per behaviour."""
    others: int
    """Boxes of other movers and of the empty scene."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The weights that a training went on from, as far as their own card tells."""

    digest: str
    weighting: str | None
    clips: int | None
    training_seed: int | None
    mean_average_precision: float | None
    """On the test archive."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything that the card says."""

    architecture: str
    input_height: int
    digest: str
    parameters: int
    recipe: Recipe
    training: DataUsed
    test: DataUsed
    minutes: float
    threads: int
    evaluation: Evaluation
    single_frame: Evaluation | None
    """Of a network that was trained on copies of the keyframe; absent where that was not tried."""
    single_frame_clips: int
    command: str
    start: Beginning | None = None
    """None where the training began with random weights."""


def facts_json(facts: CardFacts) -> str:
    """The facts as JSON."""
    return TypeAdapter(CardFacts).dump_json(facts, indent=1).decode()


def write_facts(facts: CardFacts, folder: Path) -> None:
    """Write ``scores.json`` and the card made from it, ``CARD.md``."""
    (folder / "scores.json").write_text(facts_json(facts) + "\n")
    (folder / "CARD.md").write_text(render_card(facts))


def read_facts(folder: Path) -> CardFacts:
    """The facts that :func:`write_facts` wrote."""
    return TypeAdapter(CardFacts).validate_json((folder / "scores.json").read_bytes())


def render_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    names = tuple(facts.evaluation.instances)
    sections = (
        _introduction(facts),
        "## Scores on unseen simulated scenes\n\n" + _scores(facts, names),
        "## Where it goes wrong\n\n" + _confusion(facts.evaluation, names),
        "## What posture alone gives\n\n" + _single_frame(facts),
        "## How it was trained\n\n" + _training(facts, names),
    )
    blocks = "\n\n".join(sections).split("\n\n")
    return "\n\n".join(block if block[0] in "|#" else _filled(block) for block in blocks) + "\n"


def _introduction(facts: CardFacts) -> str:
    return f"""# {facts.architecture}: the embedded weights

**Trained on simulated birds only.** No real crane was seen in training, and no score below says how well the
network does on real video. It makes the first run and the demonstration mean something; a reserve that relies
on the numbers trains on its own annotations.

Digest `{facts.digest}`, {facts.parameters / 1e6:.2f} M parameters, input {facts.input_height} lines,
4 slow and 16 fast frames over 1.07 s."""


def _scores(facts: CardFacts, names: Sequence[str]) -> str:
    scores = facts.evaluation
    lightings = tuple(scores.average_precision)
    rows = [
        [name, str(scores.instances[name]), *(_ap(scores.average_precision[key][name]) for key in lightings)]
        for name in names
    ]
    rows.append(["mean", "", *(_ap(scores.mean_average_precision[key]) for key in lightings)])
    return f"""Average precision over instances with true boxes, {facts.test.cameras} cameras of seed
{facts.test.seed} at the natural shares of the behaviours.

{_table(["behaviour", "instances", *lightings], rows)}

Motion state right: {_ap(scores.motion_accuracy)}. Reject score (deer, boats, people and empty scene against
birds): average precision {_ap(scores.other_average_precision)}; at probability 0.5 it rejects
{_per_cent(scores.others_rejected, 1)} of what is no bird and
{_per_cent(scores.birds_rejected, 2)} of the birds."""


def _confusion(scores: Evaluation, names: Sequence[str]) -> str:
    rows = []
    for name, counts in zip(names, scores.confusion, strict=True):
        total = max(1, sum(counts))
        rows.append([name, *(f"{100 * count / total:.1f}" for count in counts)])
    return f"""Per cent of the instances of a true behaviour (row) whose strongest score was the column's.

{_table(["true", *names], rows)}"""


def _single_frame(facts: CardFacts) -> str:
    if facts.single_frame is None:
        return "Not measured for these weights: `python -m flows.training.embedded --single-frame` does it."
    per_behaviour = facts.single_frame.average_precision["all"].items()
    return f"""The same network, trained and tested on sixteen copies of the keyframe
({facts.single_frame_clips} clips): mAP {_ap(facts.single_frame.mean_average_precision["all"])}
({", ".join(f"{name} {_ap(value)}" for name, value in per_behaviour)}).
What is missing there is what the network reads from movement."""


def _training(facts: CardFacts, names: Sequence[str]) -> str:
    recipe, training = facts.recipe, facts.training
    instances = ", ".join(f"{name} {training.instances[name]}" for name in names)
    threads = f"{facts.threads} thread{'s' * (facts.threads != 1)}"
    return f"""`{facts.command}`: {facts.minutes:.0f} minutes of training on {threads}.

{_start(facts.start)}

{training.cameras} simulated cameras of {training.seconds:.0f} s (seed {training.seed}; social scenes
{training.social_boost:g} times as frequent as in nature), {training.keyframes} keyframes with boxes:
{instances}; {training.others} boxes of other movers and of the empty scene. Boxes more than 65 % covered or
less than 60 % in the frame are not learnt.

AdamW {recipe.learning_rate:g}, weight decay {recipe.weight_decay:g} (none on norms and biases), batches of
{recipe.batch_clips}, {recipe.warmup_steps} warm-up steps, cosine over {recipe.total_clips} clips,
gradient clip {recipe.max_grad_norm:g}, batch-norm momentum {recipe.batch_norm_momentum:g},
dropout {recipe.dropout:g}; behaviour loss + {recipe.loss_weights.other:g} reject loss, and the motion loss
{_weighting(recipe)}; windows drawn with weight 1/sqrt(share of their rarest class);
flip, zoom, gain, offset, grey and box jitter; seed {recipe.seed}."""


def _start(start: Beginning | None) -> str:
    if start is None:
        return "It began with random weights."
    if start.clips is None:
        return f"It went on from the weights of digest `{start.digest}`."
    return f"""It went on from the weights of digest `{start.digest}`, which {start.clips} clips of
cameras of seed {start.training_seed} had made with the weighting {start.weighting}; they had a mAP of
{_ap(start.mean_average_precision)} on the same test cameras."""


def _weighting(recipe: Recipe) -> str:
    given = {"lambda_base": recipe.loss_weights.motion, **recipe.weighting_parameters}
    parameters = ", ".join(f"{name} {value:g}" for name, value in given.items())
    return f"weighed by {recipe.weighting} ({parameters})"


def _filled(paragraph: str) -> str:
    return textwrap.fill(
        " ".join(paragraph.split()), width=110, break_long_words=False, break_on_hyphens=False
    )


def _ap(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _per_cent(share: float | None, digits: int) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

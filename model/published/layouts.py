"""How published files name their tensors, and what a tensor is called here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.errors import CheckpointKeysError


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensor names of one kind of published file."""

    name: str
    marker: str
    """Start of a tensor's name that every file of this layout has, and none of another."""
    backbone: tuple[str, ...]
    """Starts of the names of the backbone's tensors."""
    heads: tuple[str, ...]
    """Starts of the names of what is left out."""
    prefix: str = ""
    """What stands before the backbone's own names."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Parts of a name, as published and as here."""

    def backbone_name(self, name: str) -> str | None:
        """What a tensor is called in the backbone; None where it is part of the published head."""
        if name.startswith(self.heads):
            return None
        for published, here in self.renamed:
            name = name.replace(published, here)
        return name.removeprefix(self.prefix)


_BLOCKS = tuple(f"blocks.{block}." for block in range(5))
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "slowfast classification",
            marker="blocks.0.multipathway_blocks.",
            backbone=_BLOCKS,
            heads=("blocks.6.proj.",),
        ),
        Layout(
            "slowfast detection",
            marker="model.blocks.0.multipathway_blocks.",
            backbone=tuple(f"model.{block}" for block in _BLOCKS),
            heads=("detection_head.",),
            prefix="model.",
        ),
        Layout(
            "slow classification",
            marker="blocks.0.conv.",
            backbone=_BLOCKS,
            heads=("blocks.5.proj.",),
        ),
        Layout(
            "transformers folder",
            marker="videomae.embeddings.",
            backbone=("videomae.embeddings.", "videomae.encoder."),
            # The last norm belongs to the pre-training decoder; the classifier has fc_norm instead of it.
            heads=(
                "videomae.layernorm.",
                "fc_norm.",
                "classifier.",
                "encoder_to_decoder.",
                "mask_token",
                "position_embeddings",
                "decoder.",
            ),
            renamed=(
                (".attention.q_bias", ".attention.query.bias"),
                (".attention.v_bias", ".attention.value.bias"),
            ),
        ),
    )
}
_FOREIGN = (
    ("s1.pathway0_stem.", "PySlowFast's own"),
    ("backbone.slow_path.", "MMAction2's SlowFast"),
    ("backbone.conv1.", "MMAction2's SlowOnly"),
    ("blocks.0.attn.", "the original VideoMAE repository's"),
    ("encoder.blocks.0.attn.", "the original VideoMAE repository's"),
)


def layout_of(names: Iterable[str], path: object) -> Layout:
    """The layout of a file with these tensor names, every one of which it accounts for.

    Raises:
        CheckpointKeysError: no layout fits, or a tensor is of no known part.
    """
    names = list(names)
    for layout in LAYOUTS.values():
        if any(name.startswith(layout.marker) for name in names):
            break
    else:
        raise CheckpointKeysError(_unknown(names, path))
    strange = [name for name in names if not name.startswith((*layout.backbone, *layout.heads))]
    if strange:
        raise CheckpointKeysError(
            f"{path}: {len(strange)} tensors do not belong to the layout '{layout.name}' (first: {strange[:3]}), "
            "so nothing was loaded; give the file as it was published"
        )
    return layout


def _unknown(names: list[str], path: object) -> str:
    for marker, owner in _FOREIGN:
        if any(name.startswith(marker) for name in names):
            return (
                f"{path}: its tensors have {owner} names, which cannot be read here; use the file of the "
                "pytorchvideo model zoo or a transformers folder instead ('aviaflow models' lists them)"
            )
    return (
        f"{path}: none of the layouts {', '.join(LAYOUTS)} has tensors with names such as {names[:3]}, so "
        "nothing was loaded; 'aviaflow models' lists the files that can be"
    )

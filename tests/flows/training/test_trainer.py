"""The steps of a training: the same after a restart, and the same clips for any number of workers."""

from __future__ import annotations

import copy
import io
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from flows.errors import SettingsError, TrainingError
from flows.settings import CONFIGS, load_train_settings
from flows.training.batches import clip_randoms, keyframes_of_step, make_batch, shares_of_step
from flows.training.curves import draw_rho, rolling_mean, write_history
from flows.training.log import TrainingLog
from flows.training.recipe import Recipe
from flows.training.settings import TrainSettings
from flows.training.trainer import HistoryRow, Trainer, check_recipe
from model.checkpoint import embedded_checkpoint
from workers.clips import WindowSet
from workers.messages import CLIP_AFTER, CLIP_BEFORE

NAMES = ("still", "blinking", "never")
TINY = Recipe(total_clips=18, batch_clips=3, warmup_steps=2)


def scene(keyframes: int = 7) -> WindowSet:
    """One video of noise; every keyframe has a bird of one of three behaviours and an empty place."""
    rng = np.random.default_rng(0)
    count = 2 * keyframes
    kind = np.tile([0, 1], keyframes)
    corner = rng.uniform(0, 0.5, (count, 2))
    return WindowSet(
        frames=rng.integers(0, 256, (8 * keyframes, 32, 48, 3), dtype=np.uint8),
        video_start=np.array([0, 8 * keyframes]),
        light=np.array(["day"]),
        video=np.zeros(keyframes, dtype=np.int64),
        grid=8 * np.arange(keyframes),
        box_start=np.arange(0, count + 1, 2),
        xyxy=np.concatenate([corner, corner + 0.4], axis=1).astype(np.float32),
        label=np.where(kind == 0, np.arange(count) // 2 % 3, -1),
        dynamic=(np.arange(count) // 2 % 2).astype(np.int64),
        learnable=kind == 0,
        other=kind == 1,
        individual=np.where(kind == 1, "", "7"),
    )


def told(row: HistoryRow) -> HistoryRow:
    """Without the clock."""
    return replace(row, clips_per_s=0.0)


@pytest.mark.parametrize("weighting", ["lgh", "gradnorm", "uncertainty"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_that_goes_on_from_a_checkpoint_draws_the_same_curve(
    optimizer: str, weighting: str
) -> None:
    recipe = replace(TINY, total_clips=12, optimizer=optimizer, weighting=weighting)
    whole = Trainer(scene(), NAMES, recipe)
    rows = [told(whole.advance()) for _ in range(recipe.total_steps)]
    stopped = Trainer(scene(), NAMES, recipe)
    for _ in range(2):
        stopped.advance()
    file = io.BytesIO()
    torch.save(stopped.state(), file)
    file.seek(0)
    torch.manual_seed(99)
    resumed = Trainer(scene(), NAMES, recipe)
    resumed.restore(torch.load(file, weights_only=True))
    assert [told(resumed.advance()) for _ in range(2)] == rows[2:]
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name


def test_a_training_that_goes_on_in_another_precision_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_a_processor(*, with_bf16: bool) -> Trainer:
        monkeypatch.setattr("flows.training.trainer.trains_in_bf16", lambda _: with_bf16)
        return Trainer(scene(), NAMES, TINY)

    begun = on_a_processor(with_bf16=True)
    assert begun.precision == "bf16"
    elsewhere = on_a_processor(with_bf16=False)
    assert elsewhere.precision == "float32"
    elsewhere.restore(begun.state())
    assert elsewhere.precision == "bf16 then float32"
    again = on_a_processor(with_bf16=False)
    again.restore(elsewhere.state())
    assert again.precision == "bf16 then float32"


GENTLE = replace(
    TINY,
    total_clips=20,
    batch_clips=5,
    optimizer="sgd",
    learning_rate=1e-3,
    weighting="lgh",
    mixed_precision=False,
)
"""Small steps in single precision: a rounding error that tips a maximum or a ReLU grows quickly in large ones."""


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    trainer = Trainer(scene(), NAMES, GENTLE, rank=rank, workers=2)
    torch.save([asdict(trainer.advance()) for _ in range(GENTLE.total_steps)], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_take_the_steps_of_one(tmp_path: Path) -> None:
    """Three clips of five on one, two on the other, with all that is random in a training."""
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    one = Trainer(scene(), NAMES, GENTLE)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for row, other in zip(first, second, strict=True):
        mine = asdict(one.advance())
        for name in mine.keys() - {"clips_per_s"}:
            tolerance = 5e-3 if name in ("rho", "gradient_norm") else 1e-4
            assert row[name] == other[name] == pytest.approx(mine[name], abs=tolerance, rel=tolerance), name


def test_the_state_of_another_training_is_refused() -> None:
    state = Trainer(scene(), NAMES, TINY).state()
    with pytest.raises(TrainingError, match=r"another recipe: seed 7 then, 8 now"):
        Trainer(scene(), NAMES, replace(TINY, seed=8)).restore(state)
    with pytest.raises(TrainingError, match=r"on other data: 7 keyframes.* then, 8 keyframes"):
        Trainer(scene(8), NAMES, TINY).restore(state)
    before = {name: value for name, value in state.items() if name != "start"}
    with pytest.raises(TrainingError, match=r"of an earlier Aviaflow, and does not say its start: delete it"):
        Trainer(scene(), NAMES, TINY).restore(before)
    relabelled = scene()
    relabelled.label[0] = (relabelled.label[0] + 1) % len(NAMES)
    with pytest.raises(TrainingError, match=r"on other data: 7 keyframes, \w+ then, 7 keyframes, \w+ now"):
        Trainer(relabelled, NAMES, TINY).restore(state)
    with pytest.raises(TrainingError, match=r"of other behaviours: .*never.* then, .*soar.* now"):
        Trainer(scene(), (*NAMES[:-1], "soar"), TINY).restore(state)
    with pytest.raises(TrainingError, match=r"from another start: random weights then, checkpoint \w+ now"):
        Trainer(scene(), NAMES, TINY, initial=embedded_checkpoint()).restore(state)


@pytest.mark.parametrize("sampling", ["balanced", "epochs"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_workers_share_the_clips_that_one_would_take(sampling: str, accumulate: int) -> None:
    recipe = replace(TINY, batch_clips=7, sampling=sampling, accumulate=accumulate)
    weights = np.full(11, 1 / 11)
    keyframes = keyframes_of_step(weights, recipe, 5)
    assert keyframes.tolist() == keyframes_of_step(weights, recipe, 5).tolist()
    assert keyframes.tolist() != keyframes_of_step(weights, recipe, 6).tolist()
    one = shares_of_step(recipe, 0, 1)
    assert np.concatenate(one).tolist() == list(range(7))
    three = [shares_of_step(recipe, rank, 3) for rank in range(3)]
    for batch, whole in enumerate(one):
        assert sorted(place for share in three for place in share[batch]) == whole.tolist()


def test_a_clip_is_changed_in_the_same_way_whoever_takes_it() -> None:
    windows, recipe = scene(), TINY
    keyframes = np.array([4, 0, 6])
    whole = make_batch(
        windows, keyframes, recipe.augmentation, clip_randoms(recipe, 3, np.arange(3)), num_behaviours=3
    )
    last = make_batch(
        windows, keyframes[2:], recipe.augmentation, clip_randoms(recipe, 3, np.array([2])), num_behaviours=3
    )
    assert torch.equal(last.clips[0], whole.clips[2])
    assert torch.equal(last.boxes, whole.boxes[4:])
    assert last.dropout_seeds[0] == whole.dropout_seeds[2]
    assert not torch.equal(whole.dropout_seeds[:1], whole.dropout_seeds[1:2])
    assert whole.clips.shape == (3, CLIP_BEFORE + CLIP_AFTER, 32, 48, 3)


def test_epochs_take_every_usable_keyframe_once_before_any_again() -> None:
    weights = np.array([0.3, 0.0, 0.1, 0.2, 0.2, 0.2])
    recipe = replace(TINY, batch_clips=2, sampling="epochs")
    drawn = np.concatenate([keyframes_of_step(weights, recipe, step) for step in range(5)])
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0, 2, 3, 4, 5]
    assert drawn[:5].tolist() != drawn[5:].tolist()


def test_a_training_that_cannot_start_says_why() -> None:
    with pytest.raises(TrainingError, match="batch_clips is 3, too few for 2 workers with 2"):
        check_recipe(replace(TINY, accumulate=2), 2, None)
    with pytest.raises(TrainingError, match="less than one step of 3"):
        check_recipe(replace(TINY, total_clips=2), 1, None)
    with pytest.raises(TrainingError, match="'frozen' needs trained statistics"):
        check_recipe(replace(TINY, batch_norm="frozen"), 1, None)


def test_a_training_starts_from_the_weights_that_it_is_given() -> None:
    recipe = replace(TINY, batch_norm="frozen")
    trainer = Trainer(scene(), NAMES, recipe, initial=embedded_checkpoint())
    before = copy.deepcopy(trainer.network.backbone.state_dict())
    again = Trainer(scene(), NAMES, replace(recipe, seed=1), initial=embedded_checkpoint())
    for name, value in again.network.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    trainer.advance()
    after = trainer.network.backbone.state_dict()
    assert torch.equal(
        after["blocks.0.multipathway_blocks.0.norm.running_mean"],
        before["blocks.0.multipathway_blocks.0.norm.running_mean"],
    )
    with pytest.raises(TrainingError, match="a slowfast_small, but the training is of a slowfast_r50"):
        Trainer(scene(), NAMES, replace(recipe, architecture="slowfast_r50"), initial=embedded_checkpoint())


def test_the_default_configuration_is_the_default_settings() -> None:
    expected = TrainSettings(clips=17500)
    written = load_train_settings(CONFIGS / "train.yaml")
    parameters = written.weighting.model_copy(update={"parameters": {}})
    assert written.model_copy(update={"weighting": parameters}) == expected
    assert written.recipe(100).rule() == expected.recipe(100).rule()


def test_the_paper_s_learning_rate_is_as_written_and_scaled_to_the_batch_in_the_other_file() -> None:
    as_written = load_train_settings(CONFIGS / "train_paper.yaml").recipe(3200)
    scaled = load_train_settings(CONFIGS / "train_paper_scaled.yaml").recipe(3200)
    assert (as_written.learning_rate, as_written.momentum, as_written.weight_decay) == (0.2, 0.9, 1e-5)
    assert (as_written.max_grad_norm, as_written.total_steps) == (40, 25 * 3200 // 16)
    assert scaled == replace(as_written, learning_rate=0.025)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1", "give either clips or epochs"),
        ("{clips: 4, epochs: 2}", "give either clips or epochs"),
        ("{clips: 4, weighting: {name: lhg}}", "weighting: .*unknown weighting 'lhg'"),
        ("{clips: 4, weighting: {name: lgh, parameters: {cap: 1}}}", r"other parameters than \['cap'\]"),
        ("{clips: 4, architecture: slow}", "unknown architecture 'slow'"),
        ("{clips: 4, lr: 1}", "lr: there is no such setting; see configs/train.yaml"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_train_settings(tmp_path / "mine.yaml")


def rows_of(rhos: list[float | None]) -> list[HistoryRow]:
    return [
        HistoryRow(step, 4 * step, 1 / step, 0.5, 0.1, rho, 1.0, 0.1, 1e-3, 2.0, 3.0)
        for step, rho in enumerate(rhos, start=1)
    ]


def test_history_and_curves_have_their_data_beside_them(tmp_path: Path) -> None:
    rows = rows_of([0.5, None, -0.25])
    write_history(rows, tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].startswith("step,clips,loss_behaviour,loss_motion,loss_other,rho,")
    assert [line.split(",")[5] for line in lines[1:]] == ["0.5", "", "-0.25"]
    draw_rho(rows, tmp_path / "rho.png")
    assert (tmp_path / "rho.csv").read_text().splitlines() == [
        'step,rho,"rho, mean of 10 steps"',
        "1,0.5,0.5",
        "3,-0.25,0.125",
    ]
    assert (tmp_path / "rho.png").read_bytes()[1:4] == b"PNG"
    assert rolling_mean(np.array([1.0, 3.0, 5.0, 7.0]), 3).tolist() == [1, 2, 3, 5]


def test_tensorboard_gets_every_step(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TrainingLog(tmp_path) as log:
        log.write(rows_of([0.5, None, -0.25]), 3)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("weighting/rho")] == [(1, 0.5), (3, -0.25)]
    assert len(events.Scalars("loss/behaviour")) == 3
    wanted = {"loss/motion", "weighting/lambda", "optimizer/learning_rate", "throughput/clips_per_s"}
    assert wanted <= set(events.Tags()["scalars"])

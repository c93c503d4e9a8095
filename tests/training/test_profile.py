"""distill train --profile: where the time of a run goes, as a table and as JSON."""

import json
import signal
import time

import numpy as np
import pytest

from distill.config import resolve
from distill.data import cache as caches
from distill.data.batching.batches import BatchStream
from distill.engines import native, profile_report
from distill.errors import Stopped
from distill.training import profile as profiles
from distill.training.trainer import make_trainer

EXPERIMENT = "tickets_step_by_step"
SLEEP = 0.06


@pytest.fixture(scope="module", autouse=True)
def small_products():
    """The bound is measured on small matrices: its size is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_report, "SIZES", {"cpu": 64})
        yield


@pytest.fixture(scope="module")
def profiled(resolved, tmp_path_factory):
    """A run whose batches and evaluations are slow: its folder and lines."""
    folder, lines = tmp_path_factory.mktemp("profiled") / "run", []
    summarize = native.summarize_predictions

    def slow_batches(self, start, stop):
        for step in range(start, stop):
            time.sleep(SLEEP)
            yield self.batch(step)

    def slow_summary(predictions):
        time.sleep(5 * SLEEP)
        return summarize(predictions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchStream, "batches", slow_batches)
        patch.setattr(native, "summarize_predictions", slow_summary)
        native.train(resolved, folder, lines.append, profile=True)
    return folder, lines


@pytest.fixture
def report(profiled):
    return json.loads((profiled[0] / "profile" / "profile_1-12.json").read_text())


def test_the_parts_are_the_whole_and_name_what_is_slow(report):
    seconds = report["seconds_by_part"]
    assert sum(seconds.values()) == pytest.approx(report["seconds"])
    assert list(seconds) == list(profiles.PARTS)
    assert 12 * SLEEP <= seconds[profiles.INPUT] < report["seconds"]
    assert 2 * 5 * SLEEP <= seconds[profiles.EVALUATION] < report["seconds"]
    assert seconds[profiles.CHECKPOINTS] > 0 and seconds[profiles.COMPILATION] > 0
    assert 0 < report["step_seconds"] < seconds[profiles.COMPILATION]


@pytest.mark.parametrize("layout", ["packed", "flat"])
def test_tokens_are_those_of_the_batches(layout, micro, tmp_path):
    run = resolve.resolve([EXPERIMENT], (*micro, f"LAYOUT={layout}")).run
    trainer = make_trainer(run, caches.load_cache(run.data))
    profile, batches = profiles.Profile(tmp_path), [trainer.stream.batch(step) for step in (3, 4)]
    for step, batch in enumerate(batches, 4):
        profile.after(step, batch, ())
    report = profile_report.make(trainer, profile)
    inputs = "encoder_input_tokens" if layout == "packed" else "encoder_tokens"
    for side, name in (("encoder", inputs), ("decoder", "decoder_target_tokens")):
        tokens = np.mean([np.count_nonzero(batch[name]) for batch in batches])
        positions = np.mean([batch[name].size for batch in batches])
        assert report[side]["tokens"] == pytest.approx(tokens)
        assert report[side]["positions"] == pytest.approx(positions)
        assert report[side]["padding"] == pytest.approx(1 - tokens / positions)
    assert (report["layout"], report["counted_steps"]) == (layout, 2)
    assert 0 < report["useful_flops"] < report["computed_flops"]
    rate = report["useful_flops"] / report["step_seconds"]
    assert report["share_of_bound"] == pytest.approx(rate / report["bound_flops_per_second"])


def test_the_table_is_told_and_kept(profiled, report):
    folder, lines = profiled
    text = (folder / "profile" / "profile_1-12.txt").read_text()
    assert text == profile_report.render(report) + "\n"
    assert "\n".join(lines).count(text.strip()) == 1
    assert f"profile of steps 1-12: {report['layout']} batches, 1 cpu device(s)" in text
    padding = f"{report['encoder']['padding']:.1%}"
    assert f"({padding} padding)" in text
    assert list((folder / "profile").rglob("*.xplane.pb"))


def test_without_a_profile_no_clock_is_read_and_nothing_is_waited_for(micro, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "time", None)
    monkeypatch.setattr(profiles, "jax", None)
    with pytest.raises(AttributeError):
        profiles.Profile(tmp_path)  # which would read it
    resolved = resolve.resolve([EXPERIMENT], (*micro, "EVAL_PERIOD=0"))
    native.train(resolved, tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run" / "profile").exists()


def test_a_run_that_a_signal_stops_has_its_report(micro, tmp_path):
    resolved = resolve.resolve([EXPERIMENT], micro)
    trainer = make_trainer(resolved.run, caches.load_cache(resolved.run.data))
    profile, lines = profiles.Profile(tmp_path / "profile"), []
    with (
        pytest.raises(Stopped),
        profile_report.reported(trainer, profile, tmp_path, lines.append),
    ):
        for step in (5, 6):
            profile.after(step, trainer.stream.batch(step - 1), ())
        raise Stopped(signal.SIGTERM, 6)
    assert lines[0].startswith("profile of steps 5-6: flat batches")
    assert (tmp_path / "profile" / "profile_5-6.json").exists()


def test_a_run_that_ends_before_its_first_step_has_none(micro, tmp_path):
    resolved = resolve.resolve([EXPERIMENT], micro)
    trainer = make_trainer(resolved.run, caches.load_cache(resolved.run.data))
    with profile_report.reported(trainer, profiles.Profile(tmp_path), tmp_path, pytest.fail):
        pass

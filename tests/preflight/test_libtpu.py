"""With libtpu's compiler: what it says of a small run, and the refusal of one that cannot fit."""

import json

import pytest

from distill import cli
from distill.preflight.compile import has_libtpu

pytestmark = pytest.mark.skipif(not has_libtpu(), reason='needs libtpu: pip install -e ".[tpu]"')
RUN = (
    "preflight",
    "--gin_file=tickets_step_by_step",
    "--gin_file=gin/meshes/v5e_host.gin",
    "--json",
    "--gin.EMBED_DIM=64",
    "--gin.NUM_ENCODER_LAYERS=1",
    "--gin.NUM_DECODER_LAYERS=1",
    "--gin.DROPOUT_RATE=0.0",
    "--gin.MICROBATCHES=1",
    "--gin.INPUT_LENGTH=32",
    "--gin.TARGET_LENGTH=16",
)


def _main(capsys, *arguments):
    code = cli.main([*RUN, *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_a_run_that_fits(capsys):
    code, found = _main(capsys, "--topology=v5e:2x2")
    own = found["bytes_per_chip"]
    assert code == 0 and found["fits"] and not found["estimate"]
    assert found["traffic_and_collectives"] == "compiled"
    # Parameters, moments, counters and a batch; and not more than the peak.
    assert own["parameters"] + own["optimizer"] < own["arguments"] <= found["peak_bytes_per_chip"]
    assert {one["axis"] for one in found["collectives"]} == {"data"}
    assert found["hbm_traffic_per_chip"] > own["arguments"]
    assert found["decoding"]["fits"] and found["decoding"]["peak_bytes_per_chip"] > 0


def test_a_run_that_cannot_fit_is_refused(capsys):
    """Scores of 2**15 rows of 512 tokens are more than 16 GB."""
    huge = "--gin.BATCH_SIZE=16384", "--gin.INPUT_LENGTH=512", "--gin.REMAT=none"
    code, found = _main(capsys, *huge, "--topology=v5e:2x2")
    assert code == 2 and not found["fits"]
    assert found["peak_bytes_per_chip"] > found["hbm_bytes_per_chip"] == 16e9
    near = found["nearest"]
    assert near["fits"] and not near["estimate"] and near["changed"]
    assert near["peak_bytes_per_chip"] < 16e9

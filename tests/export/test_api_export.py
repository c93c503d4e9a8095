"""`Student.export` writes what `distill export` writes."""

import pytest

import distill
from distill import cli


def test_as_the_command(run_dir, tmp_path):
    student = distill.load(run_dir)
    result = student.export(tmp_path / "api")
    argv = ["export", "--to=hf", f"--run_dir={run_dir}", f"--output={tmp_path}/command"]
    assert cli.main(argv) == 0
    folders = [tmp_path / "api", tmp_path / "command"]
    ours, theirs = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert ours == theirs
    assert result == {"written": str(tmp_path / "api"), "step": 12, "files": sorted(ours)}
    with pytest.raises(distill.UserError, match="--quantization works only with --to=ctranslate2"):
        student.export(tmp_path / "x", quantization="int8")
    with pytest.raises(distill.UserError, match="unknown target 'onnx'"):
        student.export(tmp_path / "x", to="onnx")
    assert not (tmp_path / "x").exists()

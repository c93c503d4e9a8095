"""Copies gin/ into built distributions as `distill/gin`; pyproject.toml has everything else.

The layout stays the plain one (no `package_dir`), so that an editable install puts the checkout
itself on sys.path. A mapped layout would be installed as an import hook, which Python asks only
after it has taken a folder named `distill` in the working directory for the package.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithGin(build_py):
    """Builds the packages, then adds the gin files."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install reads them from the checkout
            for source, target in self._gin_files():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        gin = [] if self.editable_mode else [str(target) for _, target in self._gin_files()]
        return [*super().get_outputs(include_bytecode), *gin]

    def _gin_files(self) -> list[tuple[Path, Path]]:
        """Each file of gin/, and where it is built."""
        built = Path(self.build_lib) / "distill"
        return [(path, built / path.relative_to(HERE)) for path in (HERE / "gin").rglob("*.gin")]


setup(cmdclass={"build_py": BuildWithGin})

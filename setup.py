"""Copies gin/ and launch/ into built distributions, below `distill`; pyproject.toml has the rest.

The layout stays the plain one (no `package_dir`), so that an editable install puts the checkout
itself on sys.path. A mapped layout would be installed as an import hook, which Python asks only
after it has taken a folder named `distill` in the working directory for the package.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithFiles(build_py):
    """Builds the packages, then adds the gin files and the files of `distill launch`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install reads them from the checkout
            for source, target in self._files():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        added = [] if self.editable_mode else [str(target) for _, target in self._files()]
        return [*super().get_outputs(include_bytecode), *added]

    def _files(self) -> list[tuple[Path, Path]]:
        """Each file of gin/ and launch/, and where it is built."""
        built = Path(self.build_lib) / "distill"
        gin = [*(HERE / "gin").rglob("*.gin"), *(HERE / "gin").rglob("*.toml")]
        paths = [*gin, *(HERE / "launch").rglob("*")]
        return [(path, built / path.relative_to(HERE)) for path in paths if path.is_file()]


setup(cmdclass={"build_py": BuildWithFiles})

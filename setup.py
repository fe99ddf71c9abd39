"""Puts the configs and studies that the documents name, which lie beside the package, into the wheel: `dsmooth configs` writes them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    "configs/**/*",
    "benchmarks/*.yaml",
    "benchmarks/bases/countdown-4x10-small/*",
    "benchmarks/bases/countdown-3x20-small/*",
)


class WithConfigs(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # which reads them where they lie
            return
        root = Path(__file__).parent
        for file in sorted(file for pattern in SHIPPED for file in root.glob(pattern) if file.is_file()):
            copy = Path(self.build_lib) / "differential_smoothing" / "data" / "shipped" / file.relative_to(root)
            self.mkpath(str(copy.parent))
            self.copy_file(str(file), str(copy))


setup(cmdclass={"build_py": WithConfigs})

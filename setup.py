"""Builds the kernels of `dbp/solvers/native`: a plain shared library, no Python.h and no torch, hence one for all Pythons.

Everything else is in pyproject.toml. Without a compiler the package installs all the same and runs on torch.
"""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCE = Path("dbp/solvers/native/src")
FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-pthread", "-Wno-psabi"]


class BuildKernels(build_ext):
    """Compiles a library that is loaded by path, so that its name carries no Python version."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class AnyPython(bdist_wheel):
    """Tags the wheel with the platform alone."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "dbp.solvers.native.kernels",
            sources=sorted(map(str, SOURCE.glob("*.cpp"))),
            depends=sorted(map(str, SOURCE.glob("*.h"))),
            language="c++",
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython},
)

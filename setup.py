"""Builds the kernels of `dbp/native`: plain shared libraries without Python.h or torch, one for all Pythons.

The same sources are compiled for each instruction set; the library that fits the machine is chosen on import. Without a
compiler, or with DBP_NATIVE=0 in the environment, the wheel has no kernels, fits any machine and runs on torch.

Everything else is in pyproject.toml, but for the packages (experiments in `configs/` install as `dbp.configs`) and the
readme, whose links are made absolute.
"""

import os
import platform
import re
from copy import copy
from hashlib import sha256
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

PAGES = "https://github.com/discrete-backprop/discrete-backprop"
NATIVE = Path("dbp/native")
SETS = {"kernels": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    SETS["kernels_avx2"] = ["-mavx2"]
    SETS["kernels_avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
if os.environ.get("DBP_NATIVE") == "0":
    SETS = {}
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-strict-aliasing", "-fno-trapping-math", "-pthread", "-Wno-psabi"]
LINK = ["-pthread"] if platform.system() == "Darwin" else ["-pthread", "-Wl,-s"]
SOURCES = sorted([*NATIVE.glob("src/*.cpp"), *NATIVE.glob("src/*.h")])
DIGEST = sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:15]


def readme() -> str:
    """README.md for pages other than the repository's: pictures and links that are relative become absolute."""
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{PAGES}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!https?:|#)", rf"\1{PAGES}/blob/main/", text)


class BuildKernels(build_ext):
    """Compiles a library that is loaded by path, so that its name carries no Python version."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = len(SETS)

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        own = copy(self)  # threads build the extensions side by side, each in a folder of its own
        own.build_temp = str(Path(self.build_temp, ext.name))
        build_ext.build_extension(own, ext)


class AnyPython(bdist_wheel):
    """Tags the wheel with the platform alone, or with none if no kernel was built."""

    def get_tag(self) -> tuple[str, str, str]:
        built = any(Path(path).exists() for path in self.get_finalized_command("build_ext").get_outputs())
        return "py3", "none", super().get_tag()[2] if built else "any"


setup(
    packages=[*find_packages(include=["dbp", "dbp.*"]), "dbp.configs"],
    package_dir={"dbp.configs": "configs"},
    long_description=readme(),
    long_description_content_type="text/markdown",
    ext_modules=[
        Extension(
            f"dbp.native.{name}",
            sources=sorted(map(str, NATIVE.glob("src/*.cpp"))),
            depends=sorted(map(str, NATIVE.glob("src/*.h"))),
            language="c++",
            define_macros=[("DBP_SOURCES", f"0x{DIGEST}")],  # by which a checkout knows that they are its own
            extra_compile_args=[*FLAGS, *instructions],
            extra_link_args=LINK,
            optional=True,
        )
        for name, instructions in SETS.items()
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython},
)

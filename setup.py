"""Builds collegium._core (C11, always) and the extensions in PARTS (each where its tool chain is found).

What the environment says:
  COLLEGIUM_CUDA, COLLEGIUM_GLOO      auto (default) | on | off; `on` stops where the tool chain is missing
  COLLEGIUM_X86                       auto (default) | on | off: the AVX2 and AVX-512 kernels, chosen at run time
  COLLEGIUM_CUDA_ARCHS                "80;90a;100" by default; the last one's PTX is added for later devices
  CUDA_HOME or CUDA_PATH, GLOO_HOME   where to look, and then nowhere else
  COLLEGIUM_DEV=1                     warnings are errors
  COLLEGIUM_SANITIZE                  e.g. address,undefined
  CC, CXX, CFLAGS, LDFLAGS            as ever

What came of it is printed, and written to collegium/_build.json for collegium.show_config().
`python setup.py build_ext --inplace` compiles only what changed: an object remembers its command and all it read.
"""

import glob
import json
import os
import re
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from setup_finders import Missing, Tools, find_cuda, find_gloo

# One entry an optional extension collegium._<name>: its sources, its finder, and the sentence that installs its tools.
PARTS = {
    "cuda": (["cuda/*.c*", "csrc/base/err.c"], find_cuda, "install the CUDA toolkit (nvcc), or set CUDA_HOME"),
    "gloo": (["csrc/net/*.cc", "csrc/python/gloo/*.c"], find_gloo, "apt-get install g++ libgloo-dev"),
}

ISA_FLAGS = {
    "_avx2.c": ["-mavx2", "-mfma"],
    "_avx512.c": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512".split(),
}
# Never -march=native or -ffast-math: a wheel runs everywhere, and sums are taken in the order that is written.
COMMON_FLAGS = ["-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-ffp-contract=off"]
LANGUAGE_FLAGS = {".c": ["-std=c11"], ".cc": ["-std=c++17", "-fvisibility-inlines-hidden"]}
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Wvla -Wdouble-promotion -Wundef -Wformat=2".split()
WARNINGS_BY_LANGUAGE = {".c": [*WARNINGS, "-Wstrict-prototypes", "-Wmissing-prototypes"], ".cc": WARNINGS}

DEV = os.environ.get("COLLEGIUM_DEV") == "1"
SANITIZE = os.environ.get("COLLEGIUM_SANITIZE", "")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # such interpreters have no stable ABI


def switch(name: str) -> str:
    value = os.environ.get(f"COLLEGIUM_{name.upper()}", "auto")
    if value not in ("auto", "on", "off"):
        raise SystemExit(f"COLLEGIUM_{name.upper()}: expected auto, on or off, got {value!r}")
    return value


def wide_kernels() -> bool:
    return switch("x86") == "on" or (switch("x86") == "auto" and sysconfig.get_platform().endswith(("x86_64", "amd64")))


def sanitize_flags(kinds: str) -> list[str]:
    return ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={kinds}", "-fno-sanitize-recover=all"] if kinds else []


def c_flags(file: str) -> list[str]:
    """The flags of one C or C++ file: the language's, and the wide instructions where its name says so."""
    wide = next((flags for end, flags in ISA_FLAGS.items() if file.endswith(end)), [])
    return [*COMMON_FLAGS, *LANGUAGE_FLAGS[Path(file).suffix], *wide, *([] if wide_kernels() else ["-DCG_NO_X86"])]


def sources(*patterns: str) -> list[str]:
    """The files of the patterns, less the wide kernels where the processor is of another kind."""
    found = sorted(f for p in patterns for f in glob.glob(p))
    return [f for f in found if wide_kernels() or not f.endswith(tuple(ISA_FLAGS))]


def extension(name: str, files: list[str], tools: Tools) -> Extension:
    return Extension(
        f"collegium._{name}",
        files,
        define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", "0x030A0000")],
        include_dirs=tools.include,
        extra_link_args=["-pthread", "-lm", *tools.link, *sanitize_flags(SANITIZE)],
        language="c++" if any(f.endswith(".cc") for f in files) else "c",
        py_limited_api=not FREE_THREADED,
    )


def find_parts() -> tuple[dict[str, Tools], dict[str, str]]:
    """The parts to build with their tools, and the parts not to build with the reason."""
    found, off = {}, {}
    for part, (_, find, install) in PARTS.items():
        try:
            if switch(part) == "off":
                raise Missing(f"COLLEGIUM_{part.upper()}=off at build time")
            found[part] = find()
        except Missing as why:
            if switch(part) == "on":
                raise SystemExit(f"COLLEGIUM_{part.upper()}=on, but {why}: {install}") from None
            off[part] = str(why)
    return found, off


def up_to_date(made: Path, command: str) -> bool:
    """The same command made it, and nothing it read has been touched since."""
    try:
        read = Path(f"{made}.d").read_text().replace("\\\n", " ").partition(":")[2].split()
        time = made.stat().st_mtime_ns
        return Path(f"{made}.command").read_text() == command and all(os.stat(f).st_mtime_ns < time for f in read)
    except OSError:
        return False


class Build(build_ext):
    """Compiles in parallel, each file with its own flags; an optional part that fails is left out with the reason."""

    def finalize_options(self):
        super().finalize_options()
        self.force = True  # link always: compile_one decides, file by file, whether an object is current

    def build_extensions(self):
        self.compiler.compile = self.compile_all
        self.report = {p: {"on": False, "text": off.get(p, ""), "install": PARTS[p][2]} for p in PARTS}
        for ext in list(self.extensions):
            self.name = ext.name.removeprefix("collegium._")
            try:
                self.build_extension(ext)
                if self.name in PARTS:
                    self.report[self.name].update(on=True, text=found[self.name].detail)
            except (CompileError, LinkError) as error:
                if self.name not in PARTS or switch(self.name) == "on":
                    raise
                self.report[self.name]["text"] = f"{found[self.name].detail} found, but building failed: {error}"
                self.extensions.remove(ext)

    def compile_all(self, files, output_dir=None, macros=(), include_dirs=(), **ignored):
        """Stands in for the compiler's own loop over source files; returns the objects."""
        # NumPy first: Debian puts its own NumPy's headers among Python's, and ours may be another version.
        headers = [*include_dirs, numpy.get_include(), sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
        shared = [a for h in dict.fromkeys(headers) for a in ("-isystem", h)]  # no warnings from others' headers
        shared += [f"-D{k}={v}" for k, v in macros] + ["-DNPY_TARGET_VERSION=NPY_1_22_API_VERSION"]
        objects = [Path(output_dir, self.name, f + ".o") for f in files]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(self.compile_one, files, objects, [shared] * len(files)))
        return [str(o) for o in objects]

    def compile_one(self, file: str, made: Path, shared: list[str]) -> None:
        suffix = Path(file).suffix
        if suffix == ".cu":
            command, strict = found[self.name].nvcc, ["-Werror=all-warnings"]
        else:
            command = [*self.compiler.compiler_so, *c_flags(file), *shared, *sanitize_flags(SANITIZE)]
            strict = [*WARNINGS_BY_LANGUAGE[suffix], "-Werror"]
        command = [*command, "-c", file, "-o", str(made), "-MMD", "-MF", f"{made}.d"]
        said = f"{' '.join(command)}  # numpy {numpy.__version__}"  # warnings change nothing in the object
        if up_to_date(made, said):
            return
        made.parent.mkdir(parents=True, exist_ok=True)
        print(f"  compiling {file}\n", end="", flush=True)
        done = subprocess.run(
            [*command, *(strict if DEV else [])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(done.stdout, end="", flush=True)
        if done.returncode:
            told = re.search(".*(error|fatal).*", done.stdout)
            raise CompileError(told[0] if told else f"{command[0]} failed on {file}")
        Path(f"{made}.command").write_text(said)

    def run(self):
        super().run()
        places = [Path(self.build_lib, "collegium")]
        if self.inplace or getattr(self, "editable_mode", False):
            places.append(Path(self.get_finalized_command("build_py").get_package_dir("collegium")))
        result = {"parts": self.report, "numpy": numpy.__version__, "wide_kernels": wide_kernels()}
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            (place / "_build.json").write_text(json.dumps(result, indent=1) + "\n")
            for part in PARTS:  # what an earlier build left must not slip into this one
                for stale in place.glob(f"_{part}.*so") if not self.report[part]["on"] else []:
                    stale.unlink()
        for part, said in self.report.items():
            advice = "" if said["on"] or switch(part) == "off" else f" ({said['install']})"
            print(f"  {part.upper():5} {'on ' if said['on'] else 'off'}  {said['text']}{advice}", flush=True)


if __name__ == "__main__":
    found, off = find_parts()
    core = extension("core", sources("csrc/*/*.c"), Tools())
    setup(
        license="Apache-2.0",
        ext_modules=[core, *(extension(part, sources(*PARTS[part][0]), tools) for part, tools in found.items())],
        cmdclass={"build_ext": Build},
        options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp310"}},
    )

"""Where the tool chains of the optional extensions are: one finder each, used by setup.py.

A finder returns Tools, or raises Missing with the reason in words. It looks where it is told to by CUDA_HOME, CUDA_PATH
or GLOO_HOME and then nowhere else; it compiles nothing and downloads nothing.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


class Missing(Exception):
    """Why a part cannot be built, in words."""


@dataclass
class Tools:
    """What a finder found."""

    detail: str = ""  # for people: version, architectures
    link: list[str] = field(default_factory=list)
    include: list[str] = field(default_factory=list)
    nvcc: list[str] = field(default_factory=list)  # the command that compiles .cu files


def output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def find_cuda() -> Tools:
    told = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    wheels = [Path(p, "nvidia", "cu13", "bin", "nvcc") for p in sys.path if p.endswith("-packages")]
    places = [Path(told, "bin", "nvcc")] if told else [shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc", *wheels]
    for nvcc in map(str, filter(None, places)):
        version = re.search(r"release (\d+\.\d+)", output(nvcc, "--version"))
        top = re.search(r"^#\$ TOP=(.+)$", output(nvcc, "--dryrun", "-c", "x.cu"), re.M)  # sees through wrapper scripts
        if version and top:
            home = Path(top[1].strip()).resolve()
            break
    else:
        raise Missing(f"nvcc not found in {told}" if told else "nvcc not found")
    libraries = [home / "lib64", home / "lib", *home.glob("targets/*/lib"), *Path("/usr/lib").glob("*-linux-gnu")]
    library = next((p for p in libraries if (p / "libcudart_static.a").exists()), None)
    if library is None:
        raise Missing(f"libcudart_static.a not found under {home}")
    known = set(re.findall(r"compute_(\d+)", output(nvcc, "--list-gpu-arch")))
    archs = [a for a in os.environ.get("COLLEGIUM_CUDA_ARCHS", "").replace(",", ";").split(";") if a]
    archs = archs or [a for a in ("80", "90a", "100") if a.rstrip("a") in known]
    if not archs:
        raise Missing(f"nvcc {version[1]} knows none of the architectures 80, 90a, 100")
    code = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    code.append(f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}")
    host = ["-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra"]
    # -fmad=false: products are fused only where fmaf() says so, as -ffp-contract=off does on the CPU.
    compiler = [nvcc, "-O3", "-std=c++17", "-fmad=false", "-cudart=static", *code, *host]
    # The static runtime, and the system's libraries it needs: the module imports where there is no CUDA at all.
    link = [f"-L{library}", "-lcudart_static", "-lrt", "-ldl", "-Wl,--as-needed", "-lstdc++"]
    return Tools(f"{version[1]}, {' '.join('sm_' + a for a in archs)} + PTX", link, nvcc=compiler)


def find_gloo() -> Tools:
    told = os.environ.get("GLOO_HOME")
    for home in [told] if told else ["/usr/local", "/usr"]:
        config = Path(home, "include", "gloo", "config.h")
        if config.exists():
            version = ".".join(re.findall(r"define GLOO_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", config.read_text()))
            own = home not in ("/usr", "/usr/local")
            link = [*([f"-L{home}/lib", f"-Wl,-rpath,{home}/lib"] if own else []), "-Wl,--no-as-needed", "-lgloo"]
            return Tools(version, link, [f"{home}/include"] if own else [])
    raise Missing("gloo/config.h not found" + (f" in {told}/include" if told else ""))

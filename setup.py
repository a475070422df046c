import glob
import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = {"_avx2.c": ["-mavx2", "-mfma"], "_avx512.c": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"]}

class Build(build_ext):
    def build_extensions(self):
        c = self.compiler._compile
        def one(obj, src, ext, cc_args, extra, pp):
            extra = list(extra)
            for k, v in FLAGS.items():
                if src.endswith(k): extra += v
            c(obj, src, ext, cc_args, extra, pp)
        self.compiler._compile = one
        super().build_extensions()

setup(ext_modules=[Extension("collegium._core", sorted(glob.glob("csrc/*/*.c")), include_dirs=[numpy.get_include()],
      define_macros=[("Py_LIMITED_API", "0x030A0000")], py_limited_api=True,
      extra_compile_args="-std=c11 -O3 -fvisibility=hidden -fno-math-errno -ffp-contract=off -Wall -Wextra -Wshadow".split(), extra_link_args=["-lpthread", "-lm"])],
      cmdclass={"build_ext": Build}, options={"bdist_wheel": {"py_limited_api": "cp310"}})

#include "isa.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int chosen = -1; /* racing first calls compute the same value, so no lock is needed */
static const char *const names[CG_ISA_COUNT] = {"base", "avx2", "avx512"};

const char *cg_isa_name(cg_isa_t isa) { return names[isa]; }

int cg_isa_runs(cg_isa_t isa) {
    if (isa == CG_ISA_BASE) return 1;
#if defined(__x86_64__) && !defined(CG_NO_X86)
    /* __builtin_cpu_supports also asks whether the operating system saves the wide registers. */
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == CG_ISA_AVX2) return avx2;
    return isa == CG_ISA_AVX512 && avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return 0;
#endif
}

cg_isa_t cg_isa(void) {
    int c = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (c >= 0) return (cg_isa_t)c;
    const char *want = getenv("COLLEGIUM_ISA");
    int best = CG_ISA_BASE;
    for (int i = CG_ISA_BASE; i < CG_ISA_COUNT; i++) {
        if (!cg_isa_runs((cg_isa_t)i)) continue;
        best = i;
        if (want && strcmp(want, names[i]) == 0) break;
    }
    atomic_store(&chosen, best);
    return (cg_isa_t)best;
}

int cg_isa_force(cg_isa_t isa) {
    if (isa < CG_ISA_BASE || isa >= CG_ISA_COUNT || !cg_isa_runs(isa)) return -1;
    atomic_store(&chosen, (int)isa);
    return 0;
}

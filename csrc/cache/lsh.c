#include "lsh.h"
#include "../base/isa.h"
#include "lsh_kernels.h"
#include <math.h>

static cg_project_fn *const project_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_project_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_project_avx2,
    [CG_ISA_AVX512] = cg_project_avx512,
#endif
};

static float tree_sum(float x[CG_LSH_LANES]) {
    for (size_t half = CG_LSH_LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++) x[l] += x[l + half];
    return x[0];
}

uint32_t cg_lsh_signature(size_t bits, size_t dpad, const float *planes, const float *q, float *projection) {
    cg_project_fn *const project = project_of[cg_isa()];
    uint32_t signature = 0;
    for (size_t l = 0; l < bits; l += 4) {
        float part[4][CG_LSH_LANES];
        const size_t count = bits - l < 4 ? bits - l : 4;
        project(count, dpad, planes + l * dpad, q, part);
        for (size_t p = 0; p < count; p++) {
            projection[l + p] = tree_sum(part[p]);
            signature |= (uint32_t)(projection[l + p] >= 0.0f) << (l + p);
        }
    }
    return signature;
}

/* A set of bits to flip, as positions in the order of |projection|. */
typedef struct flips {
    double cost;
    uint32_t set;
    size_t last; /* its highest position */
} flips;

static void put_flips(flips *list, size_t *n, flips f) { /* sorted by cost, first come first among equals */
    size_t i = (*n)++;
    for (; i > 0 && list[i - 1].cost > f.cost; i--) list[i] = list[i - 1];
    list[i] = f;
}

size_t cg_lsh_probes(size_t bits, uint32_t signature, const float *projection, size_t probes, uint32_t *out) {
    size_t order[CG_BITS_MOST];
    double cost[CG_BITS_MOST];
    for (size_t l = 0; l < bits; l++) {
        const double c = fabs((double)projection[l]);
        size_t i = l;
        for (; i > 0 && cost[i - 1] > c; i--) cost[i] = cost[i - 1], order[i] = order[i - 1];
        cost[i] = c, order[i] = l;
    }
    out[0] = signature;
    size_t made = 1, n = 0;
    flips list[2 * CG_BITS_MOST + 2]; /* a step takes one set out and puts two in */
    if (probes > 0) put_flips(list, &n, (flips){cost[0], 1u, 0});
    while (made <= probes && n > 0) {
        const flips f = list[0];
        n--;
        for (size_t i = 0; i < n; i++) list[i] = list[i + 1];
        uint32_t flipped = signature;
        for (size_t i = 0; i <= f.last; i++)
            if (f.set >> i & 1u) flipped ^= 1u << order[i];
        out[made++] = flipped;
        if (f.last + 1 == bits) continue;
        const size_t next = f.last + 1; /* the last bit moves on, or one more joins */
        put_flips(list, &n, (flips){f.cost - cost[f.last] + cost[next], f.set ^ (3u << f.last), next});
        put_flips(list, &n, (flips){f.cost + cost[next], f.set | 1u << next, next});
    }
    return made;
}

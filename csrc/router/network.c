#include "network.h"
#include "../base/gemm.h"
#include "../base/isa.h"
#include "network_kernels.h"
#include <string.h>

static const cg_router_kernels *const kernels[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = &cg_router_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = &cg_router_avx2,
    [CG_ISA_AVX512] = &cg_router_avx512,
#endif
};

const cg_router_kernels *cg_router_kernels_now(void) { return kernels[cg_isa()]; }

static size_t whole(size_t n) { return (n + CG_PANEL - 1) / CG_PANEL * CG_PANEL; }

static int check(size_t value, size_t least, const char *name, cg_err *err) {
    if (value >= least && value <= CG_ROUTER_WIDEST) return CG_OK;
    return cg_fail(err, CG_EVALUE, "%s: expected %zu to %zu, got %zu", name, least, CG_ROUTER_WIDEST, value);
}

int cg_router_net_set(cg_router_net *net, size_t queries, size_t statics, size_t crosses, size_t hidden1,
                      size_t hidden2, cg_err *err) {
    int rc = check(queries, 0, "queries", err);
    if (!rc) rc = check(statics, 0, "statics", err);
    if (!rc) rc = check(hidden1, 1, "hidden1", err);
    if (!rc) rc = check(hidden2, 1, "hidden2", err);
    if (rc) return rc;
    if (crosses > 1) return cg_fail(err, CG_EVALUE, "crosses: expected 0 or 1, got %zu", crosses);
    const size_t inputs = queries + statics + crosses, w1 = whole(hidden1), w2 = whole(hidden2);
    if (inputs == 0) return cg_fail(err, CG_EVALUE, "features: expected at least one column");
    *net = (cg_router_net){queries, statics, crosses, hidden1, hidden2, w1, w2, {0}, 0};
    const size_t length[CG_ROUTER_TENSORS] = {queries * w1, statics * w1, crosses * w1, w1, w1, w1,
                                              hidden1 * w2, w2,           w2,           w2, w2, CG_PANEL};
    for (size_t t = 0; t < CG_ROUTER_TENSORS; t++) net->at[t + 1] = net->at[t] + length[t];
    net->plain = (inputs + 3) * hidden1 + (hidden1 + 3) * hidden2 + hidden2 + 1;
    return CG_OK;
}

static void pad(size_t n, size_t wide, const float *from, float *to) {
    memcpy(to, from, n * sizeof *to);
    memset(to + n, 0, (wide - n) * sizeof *to);
}

void cg_router_net_pack(const cg_router_net *net, const float *plain, float *packed) {
    const size_t h1 = net->hidden1, h2 = net->hidden2, ld = net->queries + net->statics + net->crosses;
    const size_t *const at = net->at;
    cg_gemm_pack(h1, net->queries, plain, ld, packed + at[CG_ROUTER_WQ]);
    cg_gemm_pack(h1, net->statics, plain + net->queries, ld, packed + at[CG_ROUTER_WS]);
    cg_gemm_pack(h1, net->crosses, plain + net->queries + net->statics, ld, packed + at[CG_ROUTER_WX]);
    plain += h1 * ld;
    for (int t = CG_ROUTER_B1; t <= CG_ROUTER_A1; t++, plain += h1) pad(h1, net->wide1, plain, packed + at[t]);
    cg_gemm_pack(h2, h1, plain, h1, packed + at[CG_ROUTER_W2]);
    plain += h1 * h2;
    for (int t = CG_ROUTER_B2; t <= CG_ROUTER_W3; t++, plain += h2) pad(h2, net->wide2, plain, packed + at[t]);
    pad(1, CG_PANEL, plain, packed + at[CG_ROUTER_B3]);
}

void cg_router_net_unpack(const cg_router_net *net, const float *packed, float *plain) {
    const size_t h1 = net->hidden1, h2 = net->hidden2, ld = net->queries + net->statics + net->crosses;
    const size_t *const at = net->at;
    cg_gemm_unpack(h1, net->queries, packed + at[CG_ROUTER_WQ], plain, ld);
    cg_gemm_unpack(h1, net->statics, packed + at[CG_ROUTER_WS], plain + net->queries, ld);
    cg_gemm_unpack(h1, net->crosses, packed + at[CG_ROUTER_WX], plain + net->queries + net->statics, ld);
    plain += h1 * ld;
    for (int t = CG_ROUTER_B1; t <= CG_ROUTER_A1; t++, plain += h1) memcpy(plain, packed + at[t], h1 * sizeof *plain);
    cg_gemm_unpack(h2, h1, packed + at[CG_ROUTER_W2], plain, h1);
    plain += h1 * h2;
    for (int t = CG_ROUTER_B2; t <= CG_ROUTER_W3; t++, plain += h2) memcpy(plain, packed + at[t], h2 * sizeof *plain);
    *plain = packed[at[CG_ROUTER_B3]];
}

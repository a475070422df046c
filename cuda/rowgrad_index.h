/* cuda/rowgrad_index.h -- the weights' gradient of convolutions of many rows (rowconv_index.h).
 *
 *   gw[r, o, c, i, j] = sum over b, h, w of gy[r, b, o, h, w] x[r, b, c, h + i - ph, w + j - pw]
 *
 * is a product (out, batch oh ow) (batch oh ow, in kh kw): a block keeps 32 outputs by up to 832 columns (c, i, j) in
 * its warps' registers and walks over tiles of positions, whose gy and x it stages. Warps stand beside each other along
 * the columns; where these are few, they take turns at the positions and their sums are added at the end. Where rows
 * are few, so do `splits` blocks. Every sum has a fixed order. Here planes, and lines of gy, are 4 floats (mod 32)
 * apart: a warp reads 8 channels at 4 neighbours. */
#ifndef CG_CUDA_ROWGRAD_INDEX_H
#define CG_CUDA_ROWGRAD_INDEX_H
#include "rowconv_index.h"

enum {
    CG_ROWGRAD_OUT = 32,
    CG_ROWGRAD_POSITIONS = 256, /* of a tile, at most */
    CG_ROWGRAD_MOST = 13,       /* products of 8 columns a warp */
    CG_ROWGRAD_WARPS = CG_ROWCONV_THREADS / 32
};

/* How the columns are cut. along: products a warp; beside: warps beside each other; held: chunks of a block. */
typedef struct cg_rowgrad {
    cg_patch p;
    uint32_t along, beside, held, blocks, ldg, splits; /* blocks: of columns; ldg: from one output's gy to the next */
} cg_rowgrad;

CG_BOTH size_t cg_rowgrad_stage(const cg_rowgrad *k) { /* quads */
    return (CG_ROWGRAD_OUT * (size_t)k->ldg + (size_t)k->held * k->p.deep * k->p.plane + 3) / 4;
}
CG_BOTH size_t cg_rowgrad_room(const cg_rowgrad *k) {
    const size_t stages = 2 * cg_rowgrad_stage(k) * sizeof(cg_quad) + CG_ROWGRAD_POSITIONS * sizeof(uint32_t);
    const size_t sums = (size_t)CG_ROWCONV_THREADS / 2 * 8 * k->along * sizeof(float);
    return stages > sums ? stages : sums;
}
CG_BOTH size_t cg_rowgrad_size(const cg_rowgrad *k) { return (size_t)k->p.out * k->p.in * k->p.taps; }

CG_BOTH size_t cg_rowgrad_groups(const cg_rowgrad *k) { return cg_div_up(k->p.out, CG_ROWGRAD_OUT); }
CG_BOTH size_t cg_rowgrad_blocks(const cg_rowgrad *k, size_t rows) {
    return rows * k->blocks * cg_rowgrad_groups(k) * k->splits;
}

/* The cut with the fewest products that fits `shared` bytes; 0: there is none. */
CG_BOTH int cg_rowgrad_plan(cg_rowgrad *k, const cg_rowconv *c, size_t shared, int wide) {
    const uint32_t sizes[3] = {4, 10, CG_ROWGRAD_MOST};
    for (uint32_t deep = CG_ROWCONV_DEEP; deep > 0; deep /= 2) {
        for (uint32_t most = CG_ROWGRAD_POSITIONS; most >= 32; most /= 2) {
            cg_rowgrad one;
            uint32_t least = 0;
            if (!cg_patch_make(&one.p, c, most, deep, 4, wide)) break;
            one.along = one.beside = one.held = one.blocks = 0, one.splits = 1;
            one.ldg = (one.p.images * one.p.lines * one.p.ow + 31 + 28) / 32 * 32 + 4;
            *k = one;
            for (uint32_t i = 0; i < 12; i++) {
                one.along = sizes[i % 3], one.beside = 1U << i / 3;
                one.held = one.along * one.beside * 8 / (one.p.deep * one.p.taps);
                if (one.held == 0) continue;
                if (one.held > one.p.chunks) one.held = one.p.chunks;
                one.blocks = (one.p.chunks + one.held - 1) / one.held;
                const uint32_t cost = one.blocks * one.beside * (one.along + 2); /* 2: for reading gy */
                if (cg_rowgrad_room(&one) > shared || (least > 0 && cost > least)) continue;
                least = cost, *k = one;
            }
            if (least == 0) continue;
            const size_t blocks = cg_rowgrad_blocks(k, c->rows); /* enough of them for a large device */
            if (blocks > 0 && blocks <= 128) k->splits = (uint32_t)(256 / blocks);
            if (k->splits > k->p.tiles) k->splits = k->p.tiles;
            return 1;
        }
    }
    return 0;
}

typedef struct cg_rowgrad_own {
    float sum[2][CG_ROWGRAD_MOST][4];
    float a[2][4], b[CG_ROWGRAD_MOST][2];
    uint32_t at[CG_ROWGRAD_MOST]; /* of the thread's columns in the planes */
} cg_rowgrad_own;

/* Thread t's part of asking for a tile's gy of 32 outputs and x of the block's channels. gy, x: of the row. */
CG_BODY void cg_rowgrad_ask(const cg_rowgrad *k, int wide, const float *gy, const float *x, uint32_t tile,
                            uint32_t out0, uint32_t channel0, float *stage, uint32_t t) {
    const cg_patch *const p = &k->p;
    const uint32_t unit = wide ? 4 : 1, each = p->lines * p->ow, size = p->oh * p->ow;
    const uint32_t along = (p->images * each + 7) / 8 * (8 / unit), image0 = cg_patch_image(p, tile);
    const uint32_t first = cg_patch_line(p, tile) * p->ow;
    for (uint32_t item = t; item < CG_ROWGRAD_OUT * along; item += CG_ROWCONV_THREADS) {
        const uint32_t n = item % along * unit, o = item / along, image = n / each, at = first + n % each;
        const int take = image < p->images && image0 + image < p->batch && at < size && out0 + o < p->out;
        cg_copy_async_if(take, stage + o * k->ldg + n,
                         take ? gy + ((size_t)(image0 + image) * p->out + out0 + o) * size + at : gy, wide ? 16 : 4);
    }
    cg_patch_ask(p, wide, x, tile, channel0, k->held * p->deep, stage + CG_ROWGRAD_OUT * k->ldg, t);
}

/* Column n of the block: where it stands behind a position. */
CG_BODY uint32_t cg_rowgrad_column(const cg_rowgrad *k, uint32_t n) {
    const uint32_t whole = k->p.deep * k->p.taps, chunk = n / whole;
    return chunk < k->held ? chunk * k->p.deep * k->p.plane + cg_patch_tap(&k->p, n % whole) : 0;
}

/* along: k->along, a constant; so is wide. gw: (splits, rows, out, in, taps). */
CG_BODY void cg_rowgrad_body(const cg_rowgrad *k, uint32_t along, int wide, size_t rows, const float *gy,
                             const float *x, float *gw, size_t block, cg_quad *room) {
    CG_THREADS_OWN(cg_rowgrad_own, own, CG_ROWCONV_THREADS);
    const cg_patch *const p = &k->p;
    const uint32_t groups = (p->out + CG_ROWGRAD_OUT - 1) / CG_ROWGRAD_OUT;
    const uint32_t split = (uint32_t)(block % k->splits),
                   out0 = (uint32_t)(block / k->splits % groups) * CG_ROWGRAD_OUT;
    const uint32_t chunk0 = (uint32_t)(block / k->splits / groups % k->blocks) * k->held;
    const size_t row = block / k->splits / groups / k->blocks;
    const size_t stage = cg_rowgrad_stage(k), apart = sizeof *own / sizeof(float);
    const float *const x_row = x + row * p->ldx;
    const float *const gy_row = gy + row * p->batch * p->out * p->oh * p->ow;
    const uint32_t first = (uint32_t)((uint64_t)p->tiles * split / k->splits);
    const uint32_t last = (uint32_t)((uint64_t)p->tiles * (split + 1) / k->splits);
    const uint32_t turns = CG_ROWGRAD_WARPS / k->beside, steps = (p->images * p->lines * p->ow + 7) / 8;
    uint32_t *const positions = (uint32_t *)room;
    cg_quad *const stages = room + CG_ROWGRAD_POSITIONS / 4;
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        for (CG_STRIDE(n, t, CG_ROWCONV_THREADS, CG_ROWGRAD_POSITIONS))
            positions[n] = cg_patch_position(p, (uint32_t)n);
        const cg_quad zeros = {{0.0f, 0.0f, 0.0f, 0.0f}}; /* the padding: it stays */
        for (CG_STRIDE(q, t, CG_ROWCONV_THREADS, 2 * stage)) stages[q] = zeros;
        CG_UNROLL(13)
        for (uint32_t j = 0; j < along; j++) {
            CG_OWN(own, t).at[j] = cg_rowgrad_column(k, (t / 32 % k->beside * along + j) * 8 + t % 32 / 4);
            CG_UNROLL(8)
            for (uint32_t e = 0; e < 8; e++) CG_OWN(own, t).sum[e / 4][j][e % 4] = 0.0f;
        }
    }
    CG_BARRIER();
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        if (first < last) cg_rowgrad_ask(k, wide, gy_row, x_row, first, out0, chunk0 * p->deep, (float *)stages, t);
    }
    CG_NO_BARRIER();
    CG_COPIES_SENT();
    for (uint32_t tile = first; tile < last; tile++) {
        const float *const gy_here = (const float *)(stages + (tile - first) % 2 * stage);
        const float *const x_here = gy_here + CG_ROWGRAD_OUT * k->ldg;
        CG_COPIES_WAIT(0);
        if (tile + 1 < last) {
            CG_EACH_THREAD(t, CG_ROWCONV_THREADS)
            cg_rowgrad_ask(k, wide, gy_row, x_row, tile + 1, out0, chunk0 * p->deep,
                           (float *)(stages + (tile + 1 - first) % 2 * stage), t);
            CG_NO_BARRIER();
            CG_COPIES_SENT();
        }
        CG_UNROLL(1)
        for (uint32_t step0 = 0; step0 < steps; step0 += turns) {
            CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
                const uint32_t step = step0 + t / 32 / k->beside, take = step < steps; /* the whole warp */
                const uint32_t n = (take ? step * 8 : 0) + t % 4;
                const uint32_t at0 = positions[n], at1 = positions[n + 4];
                CG_UNROLL(2)
                for (uint32_t i = 0; i < 2; i++) {
                    const float *const from = gy_here + (i * 16 + t % 32 / 4) * k->ldg + n;
                    CG_UNROLL(4)
                    for (uint32_t e = 0; e < 4; e++)
                        CG_OWN(own, t).a[i][e] = take ? from[e % 2 * 8 * k->ldg + e / 2 * 4] : 0.0f;
                }
                CG_UNROLL(13)
                for (uint32_t j = 0; j < along; j++) {
                    CG_OWN(own, t).b[j][0] = x_here[CG_OWN(own, t).at[j] + at0];
                    CG_OWN(own, t).b[j][1] = x_here[CG_OWN(own, t).at[j] + at1];
                }
            }
            CG_NO_BARRIER();
            CG_UNROLL(13)
            for (uint32_t j = 0; j < along; j++) {
                cg_mma_tf32(own->sum[0][j], own->a[0], own->b[j], apart, CG_ROWCONV_THREADS);
                cg_mma_tf32(own->sum[1][j], own->a[1], own->b[j], apart, CG_ROWCONV_THREADS);
            }
        }
    }
    CG_COPIES_WAIT(0);
    /* The upper half of the warps that took turns hands its sums to the lower half, until one of each is left. */
    float *const sums = (float *)room;
    for (uint32_t half = turns / 2; half > 0; half /= 2) {
        const uint32_t count = half * k->beside * 32;
        CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
            if (t >= count && t < 2 * count) {
                CG_UNROLL(13)
                for (uint32_t j = 0; j < along; j++) {
                    CG_UNROLL(8)
                    for (uint32_t e = 0; e < 8; e++)
                        sums[(j * 8 + e) * count + t - count] = CG_OWN(own, t).sum[e / 4][j][e % 4];
                }
            }
        }
        CG_BARRIER();
        CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
            if (t < count) {
                CG_UNROLL(13)
                for (uint32_t j = 0; j < along; j++) {
                    CG_UNROLL(8)
                    for (uint32_t e = 0; e < 8; e++)
                        CG_OWN(own, t).sum[e / 4][j][e % 4] += sums[(j * 8 + e) * count + t];
                }
            }
        }
        CG_BARRIER();
    }
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        const uint32_t whole = p->deep * p->taps;
        if (t < k->beside * 32) {
            CG_UNROLL(13)
            for (uint32_t j = 0; j < along; j++) {
                CG_UNROLL(2)
                for (uint32_t e = 0; e < 2; e++) {
                    const uint32_t n = (t / 32 * along + j) * 8 + t % 4 * 2 + e, chunk = n / whole;
                    const uint32_t c = (chunk0 + chunk) * p->deep + n % whole % p->deep, tap = n % whole / p->deep;
                    if (chunk >= k->held || c >= p->in) continue;
                    CG_UNROLL(4)
                    for (uint32_t i = 0; i < 4; i++) {
                        const uint32_t o = out0 + i * 8 + t % 32 / 4;
                        if (o >= p->out) continue;
                        gw[(split * rows + row) * cg_rowgrad_size(k) + ((size_t)o * p->in + c) * p->taps + tap] =
                            CG_OWN(own, t).sum[i / 2][j][i % 2 * 2 + e];
                    }
                }
            }
        }
    }
}

/* out[i] = sum over splits of part[split, i], in order. */
CG_BODY void cg_rowgrad_sum_body(size_t splits, size_t size, const float *part, float *out, size_t block) {
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        const size_t i = block * CG_ROWCONV_THREADS + t;
        if (i < size) {
            float sum = 0.0f;
            for (size_t s = 0; s < splits; s++) sum += part[s * size + i];
            out[i] = sum;
        }
    }
}

/* Floats of work of the forward pass and of the gradient, read by quads or not; 0 and 0: no plan fits. */
CG_BOTH void cg_rowconv_sizes(const cg_rowconv *c, size_t shared, size_t *forward, size_t *gradient) {
    size_t most_forward = 0, most_gradient = 0;
    *forward = *gradient = 0;
    for (int wide = 0; wide < 2; wide++) {
        cg_patch p;
        cg_rowgrad k;
        const uint32_t down = cg_rowconv_plan(&p, c, shared, wide);
        if (down == 0 || !cg_rowgrad_plan(&k, c, shared, wide)) return;
        const size_t packed = c->rows * cg_rowconv_packed(&p, down) * 4;
        const size_t parts = k.splits > 1 ? k.splits * c->rows * cg_rowgrad_size(&k) : 1;
        if (packed > most_forward) most_forward = packed;
        if (parts > most_gradient) most_gradient = parts;
    }
    *forward = most_forward, *gradient = most_gradient;
}
#endif

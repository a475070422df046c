/* cuda/rowconv_index.h -- convolutions of many rows at once, each row with weights and samples of its own.
 *
 *   y[r, b, o, h, w] = bias[r, o] + sum over c, i, j of x[r, b, c, h + i - ph, w + j - pw] weight[r, o, c, i, j]
 *
 * is for every row a product (out, in kh kw) (in kh kw, batch oh ow) on tensor cores, in TF32, whose right operand is
 * never written down: a block stages the lines of x that its positions see, some channels at a time, with zeros where
 * the padding is, and every lane reads its operand there, at the place of a position plus the place of (c, i, j).
 * Planes of channels are 8 floats (mod 32) apart, so the 4 channels and 8 neighbours that a warp reads at once are in
 * 32 banks. Weights are packed beforehand, in the order in which lanes want them; packed flipped and transposed, the
 * same kernel makes the gradient of x. */
#ifndef CG_CUDA_ROWCONV_INDEX_H
#define CG_CUDA_ROWCONV_INDEX_H
#include "warp.h"

enum {
    CG_ROWCONV_THREADS = 256,
    CG_ROWCONV_ALONG = 8, /* products of 8 positions a warp */
    CG_ROWCONV_POSITIONS = CG_ROWCONV_THREADS / 32 * CG_ROWCONV_ALONG * 8,
    CG_ROWCONV_DEEP = 8 /* channels staged at a time, at most */
};

/* x: (rows, batch, in, height, width), rows ldx apart (0: all the same); y: (rows, batch, out, oh, ow). */
typedef struct cg_rowconv {
    size_t rows, batch, in, out, height, width, kh, kw, ph, pw, ldx;
} cg_rowconv;

/* Whether lines of x, and of y in the weights' gradient, can be read by quads. */
CG_BOTH int cg_rowconv_wide(const cg_rowconv *c, const void *x, const void *gy) {
    return (((uintptr_t)x | (uintptr_t)gy) % sizeof(cg_quad) |
            (c->width | c->ldx | (gy ? 2 * c->pw - c->kw + 1 : 0)) % 4) == 0;
}

/* A tile of positions: `lines` whole lines of `images` images, and how what they see stands in shared memory. */
typedef struct cg_patch {
    uint32_t batch, in, out, height, width, taps, kw, ph, pw, oh, ow;
    uint32_t images, lines, down, tiles; /* tiles down an image; of a row */
    uint32_t deep, chunks, steps;        /* channels of a chunk, chunks, products of 8 deep in a chunk */
    uint32_t seen, margin, pitch,
        plane; /* lines that are seen; zeros before a line; floats to the next line, channel */
    size_t ldx;
} cg_patch;

/* The tile of at most `most` positions. bank: of a plane's pitch, mod 32.  0: a line is too long. */
CG_BOTH int cg_patch_make(cg_patch *p, const cg_rowconv *c, uint32_t most, uint32_t deep, uint32_t bank, int wide) {
    p->batch = (uint32_t)c->batch, p->in = (uint32_t)c->in, p->out = (uint32_t)c->out;
    p->height = (uint32_t)c->height, p->width = (uint32_t)c->width, p->taps = (uint32_t)(c->kh * c->kw);
    p->kw = (uint32_t)c->kw, p->ph = (uint32_t)c->ph, p->pw = (uint32_t)c->pw;
    p->oh = (uint32_t)(c->height + 2 * c->ph - c->kh + 1), p->ow = (uint32_t)(c->width + 2 * c->pw - c->kw + 1);
    if (p->ow > most) return 0;
    const uint32_t lines = most / p->ow;
    if (lines >= p->oh) {
        p->lines = p->oh, p->down = 1, p->images = lines / p->oh;
        if (p->images > p->batch) p->images = p->batch;
    } else {
        p->down = (p->oh + lines - 1) / lines, p->lines = (p->oh + p->down - 1) / p->down, p->images = 1;
    }
    p->tiles = p->down * ((p->batch + p->images - 1) / p->images);
    p->deep = deep < p->in ? deep : p->in, p->chunks = (p->in + p->deep - 1) / p->deep;
    p->steps = (p->deep * p->taps + 7) / 8;
    p->seen = p->lines + (uint32_t)c->kh - 1;
    p->margin = wide ? (p->pw + 3) / 4 * 4 : p->pw;
    p->pitch = p->margin + p->width; /* the next line's margin is what is right of this one */
    if (p->deep % 4 > 0) bank += 4; /* neighbours are taps then, not channels: the fewest conflicts */
    p->plane = (p->images * p->seen * p->pitch + p->margin + 31 - bank) / 32 * 32 + bank;
    p->ldx = c->ldx;
    return 1;
}

/* Of a tile: its first image and the first line of positions. */
CG_BODY uint32_t cg_patch_image(const cg_patch *p, uint32_t tile) { return tile / p->down * p->images; }
CG_BODY uint32_t cg_patch_line(const cg_patch *p, uint32_t tile) { return tile % p->down * p->lines; }

/* Where position n of a tile stands in a plane, and (channel, tap) k of a chunk behind it. */
CG_BODY uint32_t cg_patch_position(const cg_patch *p, uint32_t n) {
    if (n >= p->images * p->lines * p->ow) return 0;
    const uint32_t line = n / p->ow, image = line / p->lines;
    return (image * p->seen + line % p->lines) * p->pitch + n % p->ow + p->margin - p->pw;
}
CG_BODY uint32_t cg_patch_tap(const cg_patch *p, uint32_t k) {
    if (k >= p->deep * p->taps) return 0;
    const uint32_t tap = k / p->deep;
    return k % p->deep * p->plane + tap / p->kw * p->pitch + tap % p->kw;
}

/* Thread t's part of asking for `channels` channels from `channel0` on. x: of the row. wide: by quads, a constant. */
CG_BODY void cg_patch_ask(const cg_patch *p, int wide, const float *x, uint32_t tile, uint32_t channel0,
                          uint32_t channels, float *to, uint32_t t) {
    const uint32_t unit = wide ? 4 : 1, along = p->width / unit, items = channels * p->images * p->seen * along;
    const uint32_t image0 = cg_patch_image(p, tile), line0 = cg_patch_line(p, tile) - p->ph;
    CG_UNROLL(2)
    for (uint32_t item = t; item < items; item += CG_ROWCONV_THREADS) {
        const uint32_t col = item % along * unit, line = item / along, row = line % p->seen;
        const uint32_t image = line / p->seen % p->images, channel = line / p->seen / p->images;
        const uint32_t seen = line0 + row; /* wraps above the image */
        const int take = image0 + image < p->batch && channel0 + channel < p->in && seen < p->height;
        const size_t plane = (size_t)(image0 + image) * p->in + channel0 + channel;
        cg_copy_async_if(take, to + channel * p->plane + (image * p->seen + row) * p->pitch + p->margin + col,
                         take ? x + (plane * p->height + seen) * p->width + col : x, wide ? 16 : 4);
    }
}

/* ---- weights ---- */

/* Rounded to the 10 bits that a tensor core keeps, ties away from zero. */
CG_BODY float cg_tf32_of(float x) {
    union {
        float f;
        uint32_t u;
    } v = {x};
    if ((v.u & 0x7F800000) != 0x7F800000) v.u = (v.u + 0x1000) & ~(uint32_t)0x1FFF;
    return v.f;
}

/* Quads of packed weights of a row: (blocks of 16 down outputs, chunks, steps, down, 32 lanes). */
CG_BOTH size_t cg_rowconv_packed(const cg_patch *p, uint32_t down) {
    return cg_div_up(p->out, 16 * (size_t)down) * p->chunks * p->steps * down * 32;
}

/* weight: (rows, out, in, taps), rows ldw apart; flipped: (rows, in, out, taps), read with the last tap first. */
CG_BODY void cg_rowconv_pack_body(const cg_patch *p, uint32_t down, size_t quads, int flipped, const float *weight,
                                  size_t ldw, cg_quad *packed, size_t block) {
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        const size_t at = block * CG_ROWCONV_THREADS + t, row_quads = cg_rowconv_packed(p, down);
        if (at < quads) {
            const uint32_t in_row = (uint32_t)(at % row_quads), lane = in_row % 32, part = in_row / 32 / down;
            const uint32_t step = part % p->steps, chunk = part / p->steps % p->chunks;
            const uint32_t out0 = (part / p->steps / p->chunks * down + in_row / 32 % down) * 16 + lane / 4;
            const float *const w = weight + at / row_quads * ldw;
            cg_quad q;
            for (uint32_t e = 0; e < 4; e++) {
                const uint32_t o = out0 + e % 2 * 8, k = step * 8 + lane % 4 + e / 2 * 4, tap = k / p->deep;
                const uint32_t c = chunk * p->deep + k % p->deep;
                const size_t place = flipped ? ((size_t)c * p->out + o) * p->taps + (p->taps - 1 - tap)
                                             : ((size_t)o * p->in + c) * p->taps + tap;
                q.v[e] = o < p->out && c < p->in && tap < p->taps ? cg_tf32_of(w[place]) : 0.0f;
            }
            packed[at] = q;
        }
    }
}

/* ---- the product ---- */

typedef struct CG_ALIGNED(8) cg_pair {
    float v[2];
} cg_pair;

typedef struct cg_rowconv_own {
    float sum[4][CG_ROWCONV_ALONG][4];
    float a[4][4], b[CG_ROWCONV_ALONG][2];
    uint32_t at[CG_ROWCONV_ALONG]; /* of the thread's positions in a plane */
} cg_rowconv_own;

/* Shared memory: taps of a chunk, then twice weights and planes. */
CG_BOTH size_t cg_rowconv_weights(const cg_patch *p, uint32_t down) { return (size_t)p->steps * down * 32; }
CG_BOTH size_t cg_rowconv_stage(const cg_patch *p, uint32_t down) {
    return cg_rowconv_weights(p, down) + (size_t)p->deep * p->plane / 4;
}
CG_BOTH size_t cg_rowconv_room(const cg_patch *p, uint32_t down) {
    return (2 * cg_rowconv_stage(p, down) + 2 * (size_t)p->steps) * sizeof(cg_quad);
}

/* The tile and the 16-row products down a block (1, 2 or 4) for `shared` bytes; 0: no tile is small enough. */
CG_BOTH uint32_t cg_rowconv_plan(cg_patch *p, const cg_rowconv *c, size_t shared, int wide) {
    const uint32_t down = c->out <= 16 ? 1 : (c->out + 31) / 32 % 2 ? 2 : 4;
    for (uint32_t deep = CG_ROWCONV_DEEP; deep > 0; deep /= 2) {
        for (uint32_t most = CG_ROWCONV_POSITIONS; most >= 64; most /= 2) {
            if (cg_patch_make(p, c, most, deep, 8, wide) && cg_rowconv_room(p, down) <= shared) return down;
        }
    }
    return 0;
}
CG_BOTH size_t cg_rowconv_blocks(const cg_patch *p, uint32_t down, size_t rows) {
    return rows * cg_div_up(p->out, 16 * (size_t)down) * p->tiles;
}

/* Thread t's part of asking for the weights and planes of a chunk. weights: of the block's outputs. */
CG_BODY void cg_rowconv_ask(const cg_patch *p, uint32_t down, int wide, const float *x, const cg_quad *weights,
                            uint32_t tile, uint32_t chunk, cg_quad *stage, uint32_t t) {
    const uint32_t quads = p->steps * down * 32;
    for (uint32_t q = t; q < quads; q += CG_ROWCONV_THREADS)
        cg_copy_async_if(1, stage + q, weights + (size_t)chunk * quads + q, 16);
    cg_patch_ask(p, wide, x, tile, chunk * p->deep, p->deep, (float *)(stage + quads), t);
}

/* One tile of positions by 16 down outputs of a row; down 1, 2 or 4 and wide are constants. x, y: of all rows. bias:
 * (rows, out) rows ldb apart, or NULL. */
CG_BODY void cg_rowconv_body(const cg_patch *p, uint32_t down, int wide, const float *x, const cg_quad *packed,
                             const float *bias, size_t ldb, float *y, size_t block, cg_quad *room) {
    CG_THREADS_OWN(cg_rowconv_own, own, CG_ROWCONV_THREADS);
    const uint32_t tile = (uint32_t)(block % p->tiles), groups = (p->out + 16 * down - 1) / (16 * down);
    const uint32_t group = (uint32_t)(block / p->tiles % groups);
    const size_t row = block / p->tiles / groups, weights = cg_rowconv_weights(p, down);
    const size_t stage = cg_rowconv_stage(p, down), apart = sizeof *own / sizeof(float);
    const float *const x_row = x + row * p->ldx;
    const cg_quad *const w_row = packed + (row * groups + group) * p->chunks * weights;
    uint32_t *const taps = (uint32_t *)room;
    cg_quad *const stages = room + 2 * (size_t)p->steps;
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        for (CG_STRIDE(k, t, CG_ROWCONV_THREADS, p->steps * 8)) taps[k] = cg_patch_tap(p, (uint32_t)k);
        const cg_quad zeros = {{0.0f, 0.0f, 0.0f, 0.0f}}; /* the padding: it stays */
        for (CG_STRIDE(q, t, CG_ROWCONV_THREADS, p->deep * p->plane / 4)) {
            stages[weights + q] = zeros;
            stages[stage + weights + q] = zeros;
        }
        CG_UNROLL(8)
        for (uint32_t j = 0; j < CG_ROWCONV_ALONG; j++) {
            CG_OWN(own, t).at[j] = cg_patch_position(p, (t / 32 * CG_ROWCONV_ALONG + j) * 8 + t % 32 / 4);
            CG_UNROLL(4)
            for (uint32_t i = 0; i < down; i++) {
                CG_UNROLL(4)
                for (uint32_t e = 0; e < 4; e++) CG_OWN(own, t).sum[i][j][e] = 0.0f;
            }
        }
    }
    CG_BARRIER();
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) cg_rowconv_ask(p, down, wide, x_row, w_row, tile, 0, stages, t);
    CG_NO_BARRIER();
    CG_COPIES_SENT();
    for (uint32_t chunk = 0; chunk < p->chunks; chunk++) {
        const cg_quad *const w_here = stages + chunk % 2 * stage;
        const float *const x_here = (const float *)(w_here + weights);
        CG_COPIES_WAIT(0);
        if (chunk + 1 < p->chunks) {
            CG_EACH_THREAD(t, CG_ROWCONV_THREADS)
            cg_rowconv_ask(p, down, wide, x_row, w_row, tile, chunk + 1, stages + (chunk + 1) % 2 * stage, t);
            CG_NO_BARRIER();
            CG_COPIES_SENT();
        }
        CG_UNROLL(1)
        for (uint32_t step = 0; step < p->steps; step++) {
            CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
                const uint32_t tap0 = taps[step * 8 + t % 4], tap1 = taps[step * 8 + t % 4 + 4];
                CG_UNROLL(4)
                for (uint32_t i = 0; i < down; i++) {
                    const cg_quad a = w_here[(step * down + i) * 32 + t % 32];
                    CG_UNROLL(4)
                    for (uint32_t e = 0; e < 4; e++) CG_OWN(own, t).a[i][e] = a.v[e];
                }
                CG_UNROLL(8)
                for (uint32_t j = 0; j < CG_ROWCONV_ALONG; j++) {
                    CG_OWN(own, t).b[j][0] = x_here[CG_OWN(own, t).at[j] + tap0];
                    CG_OWN(own, t).b[j][1] = x_here[CG_OWN(own, t).at[j] + tap1];
                }
            }
            CG_NO_BARRIER();
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_ROWCONV_ALONG; j++) {
                CG_UNROLL(4)
                for (uint32_t i = 0; i < down; i++)
                    cg_mma_tf32(own->sum[i][j], own->a[i], own->b[j], apart, CG_ROWCONV_THREADS);
            }
        }
    }
    CG_EACH_THREAD(t, CG_ROWCONV_THREADS) {
        const uint32_t image0 = cg_patch_image(p, tile), first = cg_patch_line(p, tile) * p->ow;
        const uint32_t each = p->lines * p->ow, size = p->oh * p->ow;
        const uint32_t unit = p->ow % 2 == 0 && (uintptr_t)y % sizeof(cg_pair) == 0 ? 2 : 1;
        CG_UNROLL(8)
        for (uint32_t j = 0; j < CG_ROWCONV_ALONG; j++) {
            for (uint32_t e = 0; e < 2; e += unit) {
                const uint32_t n = (t / 32 * CG_ROWCONV_ALONG + j) * 8 + t % 4 * 2 + e, image = n / each;
                const uint32_t at = first + n % each;
                if (image >= p->images || image0 + image >= p->batch || at >= size) continue;
                CG_UNROLL(8)
                for (uint32_t i = 0; i < 2 * down; i++) {
                    const uint32_t o = group * 16 * down + i * 8 + t % 32 / 4;
                    if (o >= p->out) continue;
                    float *const to = y + ((row * p->batch + image0 + image) * p->out + o) * size + at;
                    const float *const sum = CG_OWN(own, t).sum[i / 2][j] + i % 2 * 2;
                    const float b = bias ? bias[row * ldb + o] : 0.0f;
                    const cg_pair pair = {{sum[0] + b, sum[1] + b}};
                    if (unit == 2)
                        *(cg_pair *)to = pair;
                    else
                        *to = e == 0 ? pair.v[0] : pair.v[1];
                }
            }
        }
    }
}
#endif

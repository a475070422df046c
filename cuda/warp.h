/* cuda/warp.h -- what the 32 threads of a warp do together: matrices from shared memory, products on tensor cores.
 *
 * Each word is called between two sections, by all threads of a block, with the pointers of the thread; on the host
 * with those of thread 0, and the next thread's are `apart` floats on. */
#ifndef CG_CUDA_WARP_H
#define CG_CUDA_WARP_H
#include "shim.h"

#ifndef __CUDACC__
/* The 10 mantissa bits that a tensor core looks at. */
static inline double cg_twin_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= ~(uint32_t)0x1FFF;
    memcpy(&x, &bits, sizeof bits);
    return (double)x;
}
/* A sum as it leaves it: cut towards zero. */
static inline float cg_twin_cut(double x) {
    const float f = (float)x;
    return fabs((double)f) > fabs(x) ? nextafterf(f, 0.0f) : f;
}
#endif

/* Loads four pieces of 8 x 4 floats for every warp of a block, ldmatrix.x4: a lane's `at` is the quad of room that
 * holds row lane % 8 of piece lane / 8, with bits flipped and `add` added; to[p] = float lane % 4 of row lane / 4 of
 * piece p. */
CG_BODY void cg_load_pieces(float *to, const cg_quad *room, const uint32_t *at, uint32_t flip, uint32_t add,
                            size_t apart, uint32_t threads) {
#ifdef __CUDACC__
    (void)apart, (void)threads;
    uint32_t v[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(room) + ((*at ^ flip) + add) * (uint32_t)sizeof *room)
                 : "memory");
    CG_UNROLL(4)
    for (uint32_t p = 0; p < 4; p++) to[p] = __uint_as_float(v[p]);
#else
    for (uint32_t t = 0; t < threads; t++) {
        for (uint32_t p = 0; p < 4; p++)
            to[t * apart + p] = room[(at[(t / 32 * 32 + p * 8 + t % 32 / 4) * apart] ^ flip) + add].v[t % 4];
    }
#endif
}

/* d += a b for every warp of a block of `threads`: (16, 8) += (16, 8) (8, 8), tf32, mma.m16n8k8. With g = lane / 4 and
 * c = lane % 4 a lane owns a[] = A(g, c), A(g + 8, c), A(g, c + 4), A(g + 8, c + 4), b[] = B(c, g), B(c + 4, g) and
 * d[] = D(g, 2c), D(g, 2c + 1), D(g + 8, 2c), D(g + 8, 2c + 1). */
CG_BODY void cg_mma_tf32(float *d, const float *a, const float *b, size_t apart, uint32_t threads) {
#ifdef __CUDACC__
    (void)apart, (void)threads;
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
    for (uint32_t warp = 0; warp < threads; warp += 32) {
        for (uint32_t row = 0; row < 16; row++) {
            for (uint32_t col = 0; col < 8; col++) {
                float *const own = d + (warp + row % 8 * 4 + col / 2) * apart + row / 8 * 2 + col % 2;
                double sum = (double)*own;
                for (uint32_t k = 0; k < 8; k++)
                    sum += cg_twin_tf32(a[(warp + row % 8 * 4 + k % 4) * apart + row / 8 + k / 4 * 2]) *
                           cg_twin_tf32(b[(warp + col * 4 + k % 4) * apart + k / 4]);
                *own = cg_twin_cut(sum);
            }
        }
    }
#endif
}
#endif

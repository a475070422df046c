/* csrc/base/philox.h -- addressed randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011).
 *
 * A number is not drawn from a stream but looked up at an address (seed; purpose, node, round, index). Any process,
 * thread or device that knows the address computes the same bits, in any order. Key = seed; counter =
 * {index / 4, node, round, purpose}; word index % 4 of the block. An address has 2^50 words and a purpose is below 2^16
 * (not checked): beyond them addresses would share words. Not a cryptographic generator. */
#ifndef CG_PHILOX_H
#define CG_PHILOX_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* What a number is for: the last word of its address. Values are part of every saved run: never renumber. */
enum {
    CG_FOR_COIN = 1,      /* node trains in this round? */
    CG_FOR_SAMPLE = 2,    /* order of a node's samples in an epoch (round = epoch) */
    CG_FOR_INIT = 3,      /* initial weights (round = parameter tensor) */
    CG_FOR_TOPOLOGY = 4,  /* random graphs */
    CG_FOR_PARTITION = 5, /* data to nodes */
    CG_FOR_EVAL = 6,      /* which test samples are evaluated */
    CG_FOR_TORCH = 7,     /* seeds of torch's generator: initial weights (round = 0), dropout (round + 1) */
    CG_FOR_DROPOUT = 8,   /* router: dropped units (node = layer, round = step, index by row; router/train.c) */
    CG_FOR_SHUFFLE = 9,   /* router: order of the training rows (round = epoch) */
    CG_FOR_NOISE = 16,    /* Gaussian noise (csrc/noise) */
    CG_FOR_USER = 64      /* first value free for users */
};

typedef struct cg_address {
    uint64_t seed;
    uint32_t purpose, node, round;
} cg_address;

/* The bare function: out = Philox4x32-10(counter, key). */
void cg_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#define CG_ADDRESS_WORDS (UINT64_C(1) << 50)

/* out[i] = the word at (address, first + i), 0 <= i < n; first + n <= CG_ADDRESS_WORDS. */
void cg_random_u32(const cg_address *at, uint64_t first, size_t n, uint32_t *out);
/* out[i] = word * 2^-32 rounded down to 24 bits: float32 in [0, 1), exact on every machine. */
void cg_random_f32(const cg_address *at, uint64_t first, size_t n, float *out);
/* A uniformly random permutation of 0 ... n-1 (Fisher-Yates from the top, unbiased integers by rejection). */
void cg_random_permutation(const cg_address *at, uint32_t n, int32_t *out);

/* A walk along the words of one address, for algorithms that need an unknown number of them. */
typedef struct cg_walk {
    cg_address at;
    uint64_t next; /* index of the next word */
    uint32_t block[4];
} cg_walk;
void cg_walk_start(cg_walk *w, const cg_address *at);
uint32_t cg_walk_u32(cg_walk *w);
uint32_t cg_walk_below(cg_walk *w, uint32_t bound); /* uniform in [0, bound), bound >= 1 */

#ifdef __cplusplus
}
#endif
#endif

/* csrc/local/mf_kernels.h -- what differs by instruction set: errors of a batch, its update, squared errors. */
#ifndef CG_MF_KERNELS_H
#define CG_MF_KERNELS_H
#include "mf.h"

/* A batch at work. `wide` is factors rounded up to 16. */
typedef struct cg_mf_batch {
    size_t m, wide;
    int32_t *pair; /* (m, 2) */
    float *rating; /* (m) */
    float *error;  /* (m) prediction less rating */
    float *copy;   /* (m, 2, wide) user and item factors before the step; zeros behind `factors` */
} cg_mf_batch;

/* With true parameters = scale w: fills error and copy (of w); returns the sum of the squared errors. */
typedef double cg_mf_forward_fn(const cg_mf *net, const float *w, float scale, const cg_mf_batch *batch);
/* p_u -= step error copy(q_i), q_i -= step error copy(p_u), b_u and b_i -= bias_step error: rating by rating. */
typedef void cg_mf_update_fn(const cg_mf *net, float *w, float step, float bias_step, const cg_mf_batch *batch);
/* Sum of the squared errors of m ratings. */
typedef double cg_mf_squares_fn(const cg_mf *net, const float *w, size_t m, const int32_t *pair, const float *rating);

typedef struct cg_mf_kernels {
    cg_mf_forward_fn *forward;
    cg_mf_update_fn *update;
    cg_mf_squares_fn *squares;
} cg_mf_kernels;

extern const cg_mf_kernels cg_mf_base, cg_mf_avx2, cg_mf_avx512;
/* The kernels of the chosen instruction set. */
const cg_mf_kernels *cg_mf_kernels_now(void);
#endif

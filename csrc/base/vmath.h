/* csrc/base/vmath.h -- exp and tanh of float32 arrays, by our own polynomials: the same bits on every C library.
 *
 * exp: Cody-Waite reduction by ln 2 in two parts, polynomial of degree 7 (coefficients of Moshier's Cephes expf); at
 * most 1.1 ULP from the true value where the result is normal, one unit of 2^-149 where it is subnormal.
 * tanh: Cephes' odd polynomial below 0.625, 1 - 2 / (exp(2|x|) + 1) above; at most 2 ULP.
 * NaN gives NaN, exp(-inf) = 0, exp(inf) = inf, overflow gives inf, tanh(+-inf) = +-1. */
#ifndef CG_VMATH_H
#define CG_VMATH_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = f(x[i]), 0 <= i < n. y may be x itself; other overlap is not allowed. A value depends on x[i] alone, not on
 * its place in the array. */
void cg_exp_f32(size_t n, const float *x, float *y);
void cg_tanh_f32(size_t n, const float *x, float *y);

#ifdef __cplusplus
}
#endif
#endif

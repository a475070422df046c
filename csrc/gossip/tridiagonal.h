/* csrc/gossip/tridiagonal.h -- one end of the spectrum of a symmetric tridiagonal matrix, and its eigenvector. */
#ifndef CG_GOSSIP_TRIDIAGONAL_H
#define CG_GOSSIP_TRIDIAGONAL_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* The largest (end > 0) or smallest (end < 0) eigenvalue of the k x k matrix with diagonal a[0 ... k-1] and b[0 ...
 * k-2] beside it, by bisection on Sturm counts, to the last bits. k >= 1; finite entries. O(k) a halving, about 55 of
 * them. */
double cg_tridiagonal_end(size_t k, const double *a, const double *b, int end);

/* Its eigenvector, unit length, in z (k,); work: (2k,). Twisted factorisation (Parlett and Dhillon, "Relatively robust
 * representations", 2000): both recurrences run towards the largest entry, which keeps the tiny last entry, the one
 * that tells how far Lanczos has converged, accurate. O(k). */
void cg_tridiagonal_vector(size_t k, const double *a, const double *b, double value, double *z, double *work);

#ifdef __cplusplus
}
#endif
#endif

/* csrc/base/pool.h -- the thread pool under every kernel.
 *
 * One pool a process, made on first use. Workers sleep on a condition variable: they never spin against torch's or
 * BLAS's threads. A call made while another runs (from a second thread, or from inside a task) runs serially in its
 * caller. After a fork the child starts with an empty pool. Not OpenMP: libgomp hangs in a forked child.
 *
 * Determinism: [0, n) is cut into blocks of `grain`, whatever the number of threads; which thread takes a block is the
 * only thing that varies. A kernel whose blocks do not depend on each other gives the same bits on 1 and 64 threads. */
#ifndef CG_POOL_H
#define CG_POOL_H
#include "err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Does the items [begin, end) of one block. `scratch` is the calling thread's own, 64-byte aligned, `scratch_bytes`
 * long, uninitialised; NULL when scratch_bytes is 0. Cannot fail: kernels check before they split. */
typedef void (*cg_task_fn)(void *ctx, size_t begin, size_t end, void *scratch);

/* Runs fn over all blocks and returns when every one is done. grain 0 is taken as 1. The scratch memory is kept by each
 * thread for its next call. Fails only with CG_ENOMEM (no scratch for the caller), before any block has run; a worker
 * that gets no scratch leaves its blocks to the others. */
int cg_parallel_for(size_t n, size_t grain, size_t scratch_bytes, cg_task_fn fn, void *ctx, cg_err *err);

/* Threads a call may use, the caller included: at first COLLEGIUM_NUM_THREADS, else the processors this process may
 * run on. cg_set_num_threads takes 1 ... 1024 (CG_EVALUE outside); it waits for a running call to end. */
int cg_num_threads(void);
int cg_set_num_threads(int threads, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* cuda/shim.h -- one source for a kernel and its twin on the CPU.
 *
 * The body of every kernel stands in a header `<family>_index.h` that nvcc compiles for the device and gcc for the
 * host. A body is cut at its barriers: what lies between two of them is a CG_EACH_THREAD section. On a device the
 * section is the thread's own part; on the host it is a loop over the threads of one block, so that a test runs every
 * block and every thread, with every index, mask and sum, where there is no GPU (tests/c/test_cuda_twins.c).
 *
 *   CG_BLOCK();                            a block begins
 *   CG_THREADS_OWN(float, sum, 256);       a variable of each of up to 256 threads that outlives a section
 *   CG_EACH_THREAD(t, threads) { CG_OWN(sum, t) = ...; }
 *   CG_BARRIER();
 *
 * Two sections have a CG_BARRIER between them, CG_WARP_BARRIER where 32 threads only meet what they wrote themselves,
 * or CG_NO_BARRIER where a thread does; with none, the twin aborts. cg_copy_async starts a copy to shared memory, and
 * CG_COPIES_DONE is a barrier behind which the block's copies are there; the twin carries them out only then. The
 * number of threads is a power of two. In a section no thread may read what another writes: the twins also run the
 * threads from last to first (cg_twin_backwards), which gives other numbers where that rule is broken. Shared memory is
 * the caller's: a pointer. Bodies are in the common subset of C11 and C++17; products are fused only where fmaf() says
 * so (-fmad=false). */
#ifndef CG_CUDA_SHIM_H
#define CG_CUDA_SHIM_H
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#ifndef __CUDACC__
#include <stdlib.h>
#include <string.h>
#endif

#ifdef __CUDACC__
#define CG_BODY static __device__ __forceinline__
#define CG_BOTH static __host__ __device__ inline /* what a launch computes as well */
#define CG_EACH_THREAD(t, threads)                                                                                     \
    (void)(threads);                                                                                                   \
    for (uint32_t t = threadIdx.x, once_##t = 1; once_##t; once_##t = 0)
#define CG_BLOCK() ((void)0)
#define CG_BARRIER() __syncthreads()
#define CG_WARP_BARRIER() __syncwarp()
#define CG_NO_BARRIER() ((void)0)
#define CG_COPIES_DONE()                                                                                               \
    do {                                                                                                               \
        asm volatile("cp.async.wait_all;" ::: "memory");                                                               \
        __syncthreads();                                                                                               \
    } while (0)
#define CG_PRAGMA(text) _Pragma(#text)
#define CG_UNROLL(times) CG_PRAGMA(unroll times)
#define CG_ALIGNED(bytes) __align__(bytes)
#define CG_THREADS_OWN(type, name, most) type name[1]
#define CG_OWN(name, t) name[0 * (t)]
#else
#define CG_BODY static inline __attribute__((unused))
#define CG_BOTH static inline __attribute__((unused))
#define CG_EACH_THREAD(t, threads)                                                                                     \
    for (uint32_t at_##t = cg_twin_section(), t;                                                                       \
         t = cg_twin_backwards ? (threads) - 1 - at_##t : at_##t, at_##t < (threads); at_##t++)
#define CG_BLOCK() cg_twin_block()
#define CG_BARRIER() (cg_twin_open = 0)
#define CG_WARP_BARRIER() (cg_twin_open = 0)
#define CG_COPIES_DONE() cg_twin_copies_done()
#define CG_NO_BARRIER() (cg_twin_open = 0)
#define CG_UNROLL(times)
#define CG_ALIGNED(bytes) __attribute__((aligned(bytes)))
#define CG_THREADS_OWN(type, name, most) type name[most]
#define CG_OWN(name, t) name[t]
static int cg_twin_backwards __attribute__((unused)), cg_twin_open __attribute__((unused));

/* A section begins: one after another without a word between them is a barrier forgotten. */
static inline uint32_t cg_twin_section(void) {
    if (cg_twin_open) abort();
    cg_twin_open = 1;
    return 0;
}

/* Copies that were started and not waited for yet. */
static struct {
    void *to;
    const void *from;
    size_t bytes;
} *cg_twin_copy __attribute__((unused));
static size_t cg_twin_copies __attribute__((unused)), cg_twin_copies_most __attribute__((unused));

static inline __attribute__((unused)) void cg_twin_copies_done(void) {
    for (size_t i = 0; i < cg_twin_copies; i++) memcpy(cg_twin_copy[i].to, cg_twin_copy[i].from, cg_twin_copy[i].bytes);
    cg_twin_copies = 0;
    cg_twin_open = 0;
}

/* A block begins; the one before waited for all its copies. */
static inline __attribute__((unused)) void cg_twin_block(void) {
    if (cg_twin_copies > 0) abort();
    cg_twin_open = 0;
}
#endif

/* Starts a copy of 4 or 16 bytes (a constant), both sides aligned to as many, from device to shared memory. */
CG_BODY void cg_copy_async(void *to, const void *from, size_t bytes) {
#ifdef __CUDACC__
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    if (bytes == 16) /* .cg passes the L1 cache by: it would only be filled for nothing */
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(at), "l"(from) : "memory");
#else
    if (((uintptr_t)to | (uintptr_t)from) % bytes != 0) abort();
    if (cg_twin_copies == cg_twin_copies_most) {
        cg_twin_copies_most = 2 * cg_twin_copies_most + 1024;
        cg_twin_copy = realloc(cg_twin_copy, cg_twin_copies_most * sizeof *cg_twin_copy);
        if (!cg_twin_copy) abort();
    }
    cg_twin_copy[cg_twin_copies].to = to;
    cg_twin_copy[cg_twin_copies].from = from;
    cg_twin_copy[cg_twin_copies++].bytes = bytes;
#endif
}

/* The first item of work of thread t, and the step to its next: items t, t + threads, t + 2 threads, ... */
#define CG_STRIDE(i, t, threads, items)                                                                                \
    size_t i = (t);                                                                                                    \
    i < (items);                                                                                                       \
    i += (threads)

CG_BOTH size_t cg_div_up(size_t a, size_t b) { return a / b + (a % b != 0); }

/* The segment s that `item` belongs to: first[s] <= item < first[s + 1], empty segments passed over. first: `segments`
 * + 1 values from 0 that do not decrease; item < first[segments]. */
CG_BOTH size_t cg_segment_of(const uint64_t *first, size_t segments, uint64_t item) {
    size_t low = 0, high = segments;
    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (first[mid] <= item)
            low = mid;
        else
            high = mid;
    }
    return low;
}
#endif

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
 * CG_COPIES_DONE is a barrier behind which the block's copies are there. Or CG_COPIES_SENT closes a group of them, and
 * CG_COPIES_WAIT(left) is a barrier behind which all but the last `left` groups are there. The twin carries copies out
 * only then. The number of threads is a power of two. In a section no thread may read what another writes: the twins
 * also run the threads from last to first (cg_twin_backwards), which gives other numbers where that rule is broken.
 * Shared memory is the caller's: a pointer. Bodies are in the common subset of C11 and C++17; products are fused only
 * where fmaf() says so (-fmad=false). */
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
#define CG_COPIES_SENT() asm volatile("cp.async.commit_group;" ::: "memory")
#define CG_COPIES_WAIT(left)                                                                                           \
    do {                                                                                                               \
        asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");                                                \
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
#define CG_COPIES_DONE() (cg_twin_group++, cg_twin_wait(0))
#define CG_COPIES_SENT() ((void)cg_twin_group++)
#define CG_COPIES_WAIT(left) cg_twin_wait(left)
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

/* Copies that were started and not waited for yet, in order; from NULL: zeros. */
typedef struct cg_twin_copy {
    void *to;
    const void *from;
    size_t bytes, group;
} cg_twin_copy;
static cg_twin_copy *cg_twin_copies __attribute__((unused));
static size_t cg_twin_copying __attribute__((unused)), cg_twin_copies_most __attribute__((unused)),
    cg_twin_group __attribute__((unused));

static inline __attribute__((unused)) void cg_twin_wait(size_t left) {
    size_t done = 0;
    for (; done < cg_twin_copying && cg_twin_copies[done].group + left < cg_twin_group; done++) {
        const cg_twin_copy c = cg_twin_copies[done];
        if (c.from)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    cg_twin_copying -= done;
    if (done > 0) memmove(cg_twin_copies, cg_twin_copies + done, cg_twin_copying * sizeof *cg_twin_copies);
    cg_twin_open = 0;
}

/* A block begins; the one before waited for all its copies. */
static inline __attribute__((unused)) void cg_twin_block(void) {
    if (cg_twin_copying > 0) abort();
    cg_twin_open = 0;
}
#endif

typedef struct CG_ALIGNED(16) cg_quad { /* four columns of a row: one instruction moves them */
    float v[4];
} cg_quad;

/* Starts a copy of 4 or 16 bytes (a constant) from device to shared memory, both sides aligned to as many; zeros
 * instead if `take` is 0, and then `from` is not read. */
CG_BODY void cg_copy_async_if(int take, void *to, const void *from, size_t bytes) {
#ifdef __CUDACC__
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(to), real = take ? (uint32_t)bytes : 0;
    if (bytes == 16) /* .cg passes the L1 cache by: it would only be filled for nothing */
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(real) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(real) : "memory");
#else
    if (((uintptr_t)to | (take ? (uintptr_t)from : 0)) % bytes != 0) abort();
    if (cg_twin_copying == cg_twin_copies_most) {
        cg_twin_copies_most = 2 * cg_twin_copies_most + 1024;
        cg_twin_copies = (cg_twin_copy *)realloc(cg_twin_copies, cg_twin_copies_most * sizeof *cg_twin_copies);
        if (!cg_twin_copies) abort();
    }
    const cg_twin_copy c = {to, take ? from : NULL, bytes, cg_twin_group};
    cg_twin_copies[cg_twin_copying++] = c;
#endif
}

/* The same where there is always something to copy. */
CG_BODY void cg_copy_async(void *to, const void *from, size_t bytes) { cg_copy_async_if(1, to, from, bytes); }

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

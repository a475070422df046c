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
 * Two sections have a CG_BARRIER between them, or CG_NO_BARRIER where a thread only meets again what it wrote itself;
 * with neither, the twin aborts. cg_copy_async_if starts a copy to shared memory, CG_COPIES_SENT closes a group of
 * them, and CG_COPIES_WAIT(left) is a barrier behind which all but the last `left` groups of the block are there; the
 * twin carries them out only then. cg_mma_tf32 multiplies on the tensor cores, between two sections.
 *
 * The number of threads is a power of two. In a section no thread may read what another
 * writes: the twins also run the threads from last to first (cg_twin_backwards), which gives other numbers where that
 * rule is broken. Shared memory is the caller's: a pointer. Bodies are in the common subset of C11 and C++17; products
 * are fused only where fmaf() says so (-fmad=false). */
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
#define CG_NO_BARRIER() ((void)0)
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

typedef struct CG_ALIGNED(16) cg_quad { /* one instruction moves it */
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
 * piece p. Called between sections, as cg_mma_tf32. */
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
 * d[] = D(g, 2c), D(g, 2c + 1), D(g + 8, 2c), D(g + 8, 2c + 1). Called between sections with the pointers of the thread
 * (on the host thread 0's; the next thread's are `apart` floats on). */
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

/* cuda/device.h -- which devices there are, their memory and streams.
 *
 * The CUDA runtime is linked statically and loads the driver (libcuda.so.1) itself, on the first call: the extension
 * imports on any machine. With no driver, asking is safe before a fork and takes a fraction of a millisecond.
 *
 * Rules of all headers in this folder. Functions that can fail return a code and fill *err (CG_ECUDA; CG_ENOMEM names
 * the bytes). `device` is a device number; `stream` a cudaStream_t of it, 1 and 2 being the runtime's names for the
 * legacy and the per-thread default stream. Work is put on the stream and nobody waits for it, unless the name ends in
 * _sync. Arrays are in the device's memory unless a comment says "host"; their checks are the caller's
 * (collegium.cuda), which knows their names and shapes.
 *
 * One family a header, by the same name as in csrc:
 *   mix.h, consensus.h   csrc/aggregate      nearest.h   csrc/cache
 *   random.h             csrc/base, noise    router.h    csrc/router
 *   gemm.h               csrc/base           libraries.h cuBLAS and NCCL, opened on demand
 * Their place, when they come: expert.h (grouped expert GEMMs, csrc/expert: cublasGemmGroupedBatchedEx is one more
 * prototype in libraries.h) and net_nccl.h (the NCCL carrier behind csrc/net/net.h; libraries.h opens the library). */
#ifndef CG_CUDA_DEVICE_H
#define CG_CUDA_DEVICE_H
#include "../csrc/base/err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* The number of devices this process can use; 0 where the runtime reports an error. *code is its cudaError_t (0: none),
 * text (`size` bytes, size >= 1) the error's name and meaning, empty where there is none. */
int cg_cuda_device_count(int *code, char *text, size_t size);
/* The version of the runtime linked in: 1000 * major + 10 * minor. */
int cg_cuda_runtime_version(void);

/* name: `size` bytes, size >= 1. shared_bytes: the most shared memory a block can ask for. */
typedef struct cg_cuda_about {
    char name[256];
    int major, minor, multiprocessors;
    size_t shared_bytes, memory_bytes;
} cg_cuda_about;
int cg_cuda_describe(int device, cg_cuda_about *about, cg_err *err);
/* Bytes free and in all, as the driver tells. */
int cg_cuda_memory(int device, size_t *free_bytes, size_t *total_bytes, cg_err *err);

/* Memory that can be used in the order of the stream, from the driver's pool; given back in the order of `stream`. */
int cg_cuda_alloc(int device, void *stream, size_t bytes, void **out, cg_err *err);
int cg_cuda_free(int device, void *stream, void *memory, cg_err *err);

/* Copies `rows` rows of `width` bytes that are `to_pitch` and `from_pitch` bytes apart. From the host: the bytes have
 * been read when the call returns. To the host: _sync, the bytes are there when it returns. */
int cg_cuda_copy_in(int device, void *stream, void *to, size_t to_pitch, const void *from_host, size_t from_pitch,
                    size_t width, size_t rows, cg_err *err);
int cg_cuda_copy(int device, void *stream, void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                 size_t rows, cg_err *err);
int cg_cuda_copy_out_sync(int device, void *stream, void *to_host, size_t to_pitch, const void *from, size_t from_pitch,
                          size_t width, size_t rows, cg_err *err);
int cg_cuda_zero(int device, void *stream, void *to, size_t bytes, cg_err *err);

/* Makes `device` the calling thread's current one, for libraries that go by that; *old: which it was. */
int cg_cuda_swap_device(int device, int *old, cg_err *err);

/* What is put on `stream` from now on waits, on the device, for what is on `other` now. */
int cg_cuda_stream_wait(int device, void *stream, void *other, cg_err *err);
int cg_cuda_stream_sync(int device, void *stream, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif

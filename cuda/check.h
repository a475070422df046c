/* cuda/check.h -- what every .cu file does with the status of a call. C++ only. */
#ifndef CG_CUDA_CHECK_H
#define CG_CUDA_CHECK_H
#include "../csrc/base/err.h"
#include <cuda_runtime.h>

/* Fills *err with the call, the error's name and meaning, file and line; returns the code. Out of memory is CG_ENOMEM.
 * Clears the runtime's own note of the error, so that the next call does not report it again. */
int cg_cuda_failed(cudaError_t status, const char *call, const char *file, int line, cg_err *err);

/* Returns from the function that stands around it if the call fails. */
#define CG_CUDA(call, err)                                                                                             \
    do {                                                                                                               \
        const cudaError_t cg_status = (call);                                                                          \
        if (cg_status != cudaSuccess) return cg_cuda_failed(cg_status, #call, __FILE__, __LINE__, err);                \
    } while (0)

/* After a launch: what the launch itself reports; nothing waits for the kernel. */
#define CG_CUDA_LAUNCHED(err) CG_CUDA(cudaGetLastError(), err)

/* Makes a device current for the calling thread as long as it lives, then the old one again. */
struct cg_on_device {
    int old = -1;
    bool changed = false; /* setting back what was not changed could start a context on a device nobody uses */
    cudaError_t status;
    explicit cg_on_device(int device) {
        status = cudaGetDevice(&old);
        changed = status == cudaSuccess && old != device;
        if (changed) status = cudaSetDevice(device);
    }
    ~cg_on_device() {
        if (changed) (void)cudaSetDevice(old);
    }
    cg_on_device(const cg_on_device &) = delete;
    cg_on_device &operator=(const cg_on_device &) = delete;
};
#define CG_ON_DEVICE(device, err)                                                                                      \
    const cg_on_device cg_device_guard(device);                                                                        \
    CG_CUDA(cg_device_guard.status, err)

static inline cudaStream_t cg_stream(void *stream) { return static_cast<cudaStream_t>(stream); }
#endif

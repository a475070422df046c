#include "check.h"
#include "device.h"
#include <cstdint>
#include <cstdio>
#include <cstring>

int cg_cuda_failed(cudaError_t status, const char *call, const char *file, int line, cg_err *err) {
    cudaGetLastError(); /* the runtime keeps an error until it is read: the next call must not report this one */
    const int code = status == cudaErrorMemoryAllocation ? CG_ENOMEM : CG_ECUDA;
    const char *const slash = std::strrchr(file, '/');
    return cg_fail(err, code, "%s: %s (%s, cuda/%s:%d)", cudaGetErrorName(status), cudaGetErrorString(status), call,
                   slash ? slash + 1 : file, line);
}

int cg_cuda_device_count(int *code, char *text, size_t size) {
    int count = 0;
    const cudaError_t err = cudaGetDeviceCount(&count);
    *code = static_cast<int>(err);
    text[0] = '\0';
    if (err == cudaSuccess) return count;
    std::snprintf(text, size, "%s: %s", cudaGetErrorName(err), cudaGetErrorString(err));
    cudaGetLastError();
    return 0;
}

int cg_cuda_runtime_version(void) { return CUDART_VERSION; }

int cg_cuda_describe(int device, cg_cuda_about *about, cg_err *err) {
    cudaDeviceProp p;
    CG_CUDA(cudaGetDeviceProperties(&p, device), err);
    std::snprintf(about->name, sizeof about->name, "%s", p.name);
    about->major = p.major;
    about->minor = p.minor;
    about->multiprocessors = p.multiProcessorCount;
    about->shared_bytes = p.sharedMemPerBlockOptin;
    about->memory_bytes = p.totalGlobalMem;
    return CG_OK;
}

int cg_cuda_memory(int device, size_t *free_bytes, size_t *total_bytes, cg_err *err) {
    CG_ON_DEVICE(device, err);
    CG_CUDA(cudaMemGetInfo(free_bytes, total_bytes), err);
    return CG_OK;
}

int cg_cuda_alloc(int device, void *stream, size_t bytes, void **out, cg_err *err) {
    CG_ON_DEVICE(device, err);
    const cudaError_t status = cudaMallocAsync(out, bytes, cg_stream(stream));
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        size_t left = 0, total = 0;
        (void)cudaMemGetInfo(&left, &total);
        return cg_fail(err, CG_ENOMEM, "no memory for %zu bytes on CUDA device %d: %zu of %zu are free", bytes, device,
                       left, total);
    }
    CG_CUDA(status, err);
    return CG_OK;
}

int cg_cuda_free(int device, void *stream, void *memory, cg_err *err) {
    CG_ON_DEVICE(device, err);
    CG_CUDA(cudaFreeAsync(memory, cg_stream(stream)), err);
    return CG_OK;
}

static int copy(int device, void *stream, void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                size_t rows, cudaMemcpyKind kind, cg_err *err) {
    if (width == 0 || rows == 0) return CG_OK;
    CG_ON_DEVICE(device, err);
    if (rows == 1 || (to_pitch == width && from_pitch == width)) { /* one piece: no limit on the pitch */
        CG_CUDA(cudaMemcpyAsync(to, from, width * rows, kind, cg_stream(stream)), err);
        return CG_OK;
    }
    if (to_pitch <= INT32_MAX && from_pitch <= INT32_MAX) { /* all that a copy of rows can take */
        CG_CUDA(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, rows, kind, cg_stream(stream)), err);
        return CG_OK;
    }
    for (size_t r = 0; r < rows; r++)
        CG_CUDA(cudaMemcpyAsync(static_cast<char *>(to) + r * to_pitch,
                                static_cast<const char *>(from) + r * from_pitch, width, kind, cg_stream(stream)),
                err);
    return CG_OK;
}

int cg_cuda_copy_in(int device, void *stream, void *to, size_t to_pitch, const void *from_host, size_t from_pitch,
                    size_t width, size_t rows, cg_err *err) {
    const int rc = copy(device, stream, to, to_pitch, from_host, from_pitch, width, rows, cudaMemcpyHostToDevice, err);
    if (rc != CG_OK || width == 0 || rows == 0) return rc;
    /* Ordinary memory has been read by now; what the device can read by itself, it reads when its turn comes. */
    CG_ON_DEVICE(device, err);
    cudaPointerAttributes about;
    CG_CUDA(cudaPointerGetAttributes(&about, from_host), err);
    if (about.type != cudaMemoryTypeUnregistered) CG_CUDA(cudaStreamSynchronize(cg_stream(stream)), err);
    return CG_OK;
}

int cg_cuda_copy(int device, void *stream, void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                 size_t rows, cg_err *err) {
    return copy(device, stream, to, to_pitch, from, from_pitch, width, rows, cudaMemcpyDeviceToDevice, err);
}

int cg_cuda_copy_out_sync(int device, void *stream, void *to_host, size_t to_pitch, const void *from, size_t from_pitch,
                          size_t width, size_t rows, cg_err *err) {
    const int rc = copy(device, stream, to_host, to_pitch, from, from_pitch, width, rows, cudaMemcpyDeviceToHost, err);
    return rc == CG_OK ? cg_cuda_stream_sync(device, stream, err) : rc;
}

int cg_cuda_zero(int device, void *stream, void *to, size_t bytes, cg_err *err) {
    if (bytes == 0) return CG_OK;
    CG_ON_DEVICE(device, err);
    CG_CUDA(cudaMemsetAsync(to, 0, bytes, cg_stream(stream)), err);
    return CG_OK;
}

int cg_cuda_swap_device(int device, int *old, cg_err *err) {
    CG_CUDA(cudaGetDevice(old), err);
    CG_CUDA(cudaSetDevice(device), err);
    return CG_OK;
}

int cg_cuda_stream_wait(int device, void *stream, void *other, cg_err *err) {
    if (stream == other) return CG_OK;
    CG_ON_DEVICE(device, err);
    cudaEvent_t event;
    CG_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), err);
    cudaError_t status = cudaEventRecord(event, cg_stream(other));
    if (status == cudaSuccess) status = cudaStreamWaitEvent(cg_stream(stream), event, 0);
    (void)cudaEventDestroy(event); /* lives on until the wait is over */
    CG_CUDA(status, err);
    return CG_OK;
}

int cg_cuda_stream_sync(int device, void *stream, cg_err *err) {
    CG_ON_DEVICE(device, err);
    CG_CUDA(cudaStreamSynchronize(cg_stream(stream)), err);
    return CG_OK;
}

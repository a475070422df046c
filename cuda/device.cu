#include "device.h"
#include <cstdio>
#include <cuda_runtime_api.h>

int cg_cuda_device_count(int *code, char *text, size_t size) {
    int count = 0;
    const cudaError_t err = cudaGetDeviceCount(&count);
    *code = static_cast<int>(err);
    text[0] = '\0';
    if (err == cudaSuccess) return count;
    std::snprintf(text, size, "%s: %s", cudaGetErrorName(err), cudaGetErrorString(err));
    cudaGetLastError(); /* the runtime keeps an error until it is read: the next call must not report this one */
    return 0;
}

int cg_cuda_runtime_version(void) { return CUDART_VERSION; }

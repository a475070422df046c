/* cuda/device.h -- which devices there are, told without a driver, a device or an exception.
 *
 * The CUDA runtime is linked statically and loads the driver (libcuda.so.1) itself, on the first call: the extension
 * imports on any machine. With no driver, asking is safe before a fork and takes a fraction of a millisecond. */
#ifndef CG_CUDA_DEVICE_H
#define CG_CUDA_DEVICE_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* The number of devices this process can use; 0 where the runtime reports an error. *code is its cudaError_t (0: none),
 * text (`size` bytes, size >= 1) the error's name and meaning, empty where there is none. */
int cg_cuda_device_count(int *code, char *text, size_t size);
/* The version of the runtime linked in: 1000 * major + 10 * minor. */
int cg_cuda_runtime_version(void);

#ifdef __cplusplus
}
#endif
#endif

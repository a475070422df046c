#include "libraries.h"
#include "device.h"
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

/* cublas_v2.h, nccl.h: what is used of them. Statuses are 0 for success. */
typedef struct cublas_calls {
    int (*property)(int which, int *value); /* 0 major, 1 minor, 2 patch: needs no device */
    int (*create)(void **handle);
    int (*set_stream)(void *handle, void *stream);
    int (*sgemm)(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha, const float *a, int lda,
                 const float *b, int ldb, const float *beta, float *c, int ldc);
} cublas_calls;
enum { OP_NONE = 0, OP_TRANSPOSE = 1, DEVICES = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cublas_calls cublas;
static void *handles[DEVICES];
static int cublas_version, nccl_version; /* 0: not open */

/* A function of the library into *out; 0 where there is none. (ISO C has no cast from an object pointer to it.) */
static int find(void *library, const char *name, void *out) {
    void *const at = dlsym(library, name);
    if (at) memcpy(out, &at, sizeof at);
    return at != NULL;
}

static void *opened(const char *file, cg_err *err) {
    void *const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) cg_fail(err, CG_EVALUE, "%s", dlerror());
    return library;
}

static int open_cublas(const char *file, cg_err *err) {
    void *const library = opened(file, err);
    cublas_calls c;
    int major, minor, patch;
    if (!library) return CG_EVALUE;
    if (!find(library, "cublasGetProperty", &c.property) || !find(library, "cublasCreate_v2", &c.create) ||
        !find(library, "cublasSetStream_v2", &c.set_stream) || !find(library, "cublasSgemm_v2", &c.sgemm) ||
        c.property(0, &major) || c.property(1, &minor) || c.property(2, &patch)) {
        dlclose(library);
        return cg_fail(err, CG_EVALUE, "%s: is not cuBLAS", file);
    }
    cublas = c;
    cublas_version = 10000 * major + 100 * minor + patch;
    return CG_OK;
}

static int open_nccl(const char *file, cg_err *err) {
    void *const library = opened(file, err);
    int (*get_version)(int *);
    if (!library) return CG_EVALUE;
    if (!find(library, "ncclGetVersion", &get_version) || get_version(&nccl_version)) {
        nccl_version = 0;
        dlclose(library);
        return cg_fail(err, CG_EVALUE, "%s: is not NCCL", file);
    }
    return CG_OK;
}

int cg_cublas_open(const char *file, int *version, cg_err *err) {
    pthread_mutex_lock(&lock);
    const int rc = cublas_version ? CG_OK : open_cublas(file, err);
    *version = cublas_version;
    pthread_mutex_unlock(&lock);
    return rc;
}

int cg_nccl_open(const char *file, int *version, cg_err *err) {
    pthread_mutex_lock(&lock);
    const int rc = nccl_version ? CG_OK : open_nccl(file, err);
    *version = nccl_version;
    pthread_mutex_unlock(&lock);
    return rc;
}

/* The library is column-major: c^T = b a^T there is our c = a b^T. The device is current, the lock held. */
static int sgemm(int device, void *stream, const int size[6], const float *a, const float *b, float *c, cg_err *err) {
    const float one = 1.0f, zero = 0.0f;
    int status = handles[device] ? 0 : cublas.create(&handles[device]);
    if (status) {
        handles[device] = NULL;
        return cg_fail(err, CG_ECUDA, "cublasCreate: status %d on CUDA device %d", status, device);
    }
    status = cublas.set_stream(handles[device], stream);
    if (!status)
        status = cublas.sgemm(handles[device], OP_TRANSPOSE, OP_NONE, size[1], size[0], size[2], &one, b, size[4], a,
                              size[3], &zero, c, size[5]);
    return status ? cg_fail(err, CG_ECUDA, "cublasSgemm: status %d on CUDA device %d", status, device) : CG_OK;
}

int cg_cublas_gemm_f32(int device, void *stream, size_t m, size_t n, size_t k, const float *a, size_t lda,
                       const float *b, size_t ldb, float *c, size_t ldc, cg_err *err) {
    const size_t given[6] = {m, n, k, lda, ldb, ldc};
    int size[6], old;
    for (int i = 0; i < 6; i++) {
        if (given[i] > INT_MAX) return cg_fail(err, CG_EVALUE, "cublasSgemm: a size of %zu does not fit", given[i]);
        size[i] = (int)given[i];
    }
    if (device < 0 || device >= DEVICES) return cg_fail(err, CG_EVALUE, "device: expected 0 to 63, got %d", device);
    if (m == 0 || n == 0) return CG_OK;
    int rc = cg_cuda_swap_device(device, &old, err);
    if (rc != CG_OK) return rc;
    pthread_mutex_lock(&lock);
    rc = cublas_version ? sgemm(device, stream, size, a, b, c, err)
                        : cg_fail(err, CG_EVALUE, "cuBLAS is not open: cg_cublas_open first");
    pthread_mutex_unlock(&lock);
    cg_err ignored;
    (void)cg_cuda_swap_device(old, &device, &ignored);
    return rc;
}

/* cuda/router.h -- the router's forward pass in batches: products (gemm.h) and what stands between them.
 *
 * For an encoder with queries Q (b, dim) and `group` sources: z = Q Wq^T, h1 = layer(z + shift + (Q . c_s) cross), z2 =
 * h1 W2^T, h2 = layer(z2 + b2), p = head(h2). Float32; sums in other orders than csrc/router's. */
#ifndef CG_CUDA_ROUTER_H
#define CG_CUDA_ROUTER_H
#include "device.h"
#include "router_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* layer->out = ReLU(LayerNorm(...)) for `rows` rows (router_index.h). */
int cg_cuda_router_layer_f32(int device, void *stream, size_t rows, const cg_router_layer *layer, cg_err *err);
/* head->p: (queries, sources), of which row r of h sets [r / group, column[r % group]] to sigmoid(h_r . w + *b). */
int cg_cuda_router_head_f32(int device, void *stream, size_t rows, const cg_router_head *head, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif

/* csrc/net/gloo.h -- the door to gloo (CPU messages between processes and machines): an extern "C" shim, so that no C++
 * type, exception or header passes it. Its code is the extension collegium._gloo, which may be absent. */
#ifndef CG_NET_GLOO_H
#define CG_NET_GLOO_H
#ifdef __cplusplus
extern "C" {
#endif

/* "0.5.0": the gloo this was compiled against. Static storage. */
const char *cg_gloo_version(void);

#ifdef __cplusplus
}
#endif
#endif

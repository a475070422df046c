/* csrc/base/isa.h -- which instruction set the kernels run on: chosen once, visible, forcible.
 *
 * Every family keeps a table [CG_ISA_COUNT] of its kernels and calls the row cg_isa(). Only files named *_avx2.c and
 * *_avx512.c are compiled with wider flags; they hold no code that runs before this choice. */
#ifndef CG_ISA_H
#define CG_ISA_H
#ifdef __cplusplus
extern "C" {
#endif

typedef enum cg_isa_t { CG_ISA_BASE, CG_ISA_AVX2, CG_ISA_AVX512, CG_ISA_COUNT } cg_isa_t;

/* The best one this processor and operating system can run, or the forced one. The environment variable
 * COLLEGIUM_ISA=base|avx2|avx512 is read at the first call; a name that cannot run here is ignored. */
cg_isa_t cg_isa(void);
int cg_isa_runs(cg_isa_t isa);         /* 1 if this machine can run it */
int cg_isa_force(cg_isa_t isa);        /* 0, or -1 if it cannot run here; not for use while kernels are running */
const char *cg_isa_name(cg_isa_t isa); /* "base", "avx2", "avx512" */

#ifdef __cplusplus
}
#endif
#endif

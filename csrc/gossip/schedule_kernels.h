/* csrc/gossip/schedule_kernels.h -- one training slot of a block of nodes; one round's energy. Kernels check nothing
 * and cannot fail. */
#ifndef CG_GOSSIP_SCHEDULE_KERNELS_H
#define CG_GOSSIP_SCHEDULE_KERNELS_H
#include <stddef.h>
#include <stdint.h>

enum { CG_SLOT_NODES = 64 }; /* a cache line of the action matrix */

/* For each of the 64 nodes: action = left > 0 and coin <= last, then left -= action. last = threshold - 1; at its
 * largest every coin passes and none is looked up, nor is it for a node with nothing left. */
typedef void cg_slot_fn(uint64_t seed, uint32_t first_node, uint32_t round, const uint32_t *last, uint32_t *left,
                        uint8_t *action);
cg_slot_fn cg_slot_base, cg_slot_avx2, cg_slot_avx512;

/* The sum of e[i] over the nodes with action[i] = 1, as eight sums over i mod 8 that are added in one fixed order:
 * the same bits from every kernel. */
typedef double cg_round_energy_fn(size_t n, const uint8_t *action, const double *e);
cg_round_energy_fn cg_round_energy_base, cg_round_energy_avx2, cg_round_energy_avx512;
#endif

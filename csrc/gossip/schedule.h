/* csrc/gossip/schedule.h -- which node trains in which round, and what that costs.
 *
 * One rule is four published schedules (SkipTrain, sections 2.1 to 2.4). With period G = gamma_train + gamma_sync, node
 * i trains in round t iff (t mod G) < gamma_train, its budget is not used up, and its coin falls: a Philox word below
 * threshold[i]. D-PSGD: gamma_sync = 0, always, no budget. SkipTrain: always, no budget. SkipTrain-constrained:
 * threshold = p_i 2^32, p_i = min(tau_i / T_train, 1), budget = tau. Greedy: gamma_sync = 0, always, budget = tau. */
#ifndef CG_GOSSIP_SCHEDULE_H
#define CG_GOSSIP_SCHEDULE_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CG_ALWAYS (UINT64_C(1) << 32) /* the threshold of probability 1 */

/* action: (rounds, n), 1 = trains, 0 = only shares. threshold: (n,), 0 ... CG_ALWAYS, or NULL: always. budget: (n,),
 * rounds a node may train, >= 0, or NULL: no limit. gamma_train >= 1, rounds <= 2^32 - 1, first_node + n <= 2^32.
 * The coin of node i (global id first_node + i) in round t is word 0 at (seed; CG_FOR_COIN, first_node + i, t): a
 * process that holds a block of the nodes computes its columns of the same matrix. Looked up only where it decides.
 * No array overlaps another. O(rounds * n); the same bits for every ISA and number of threads. */
int cg_schedule(size_t rounds, size_t n, uint32_t gamma_train, uint32_t gamma_sync, const uint64_t *threshold,
                const int64_t *budget, uint64_t seed, uint32_t first_node, uint8_t *action, cg_err *err);

/* per_node[i] = e[i] * (rounds in which i trained), (n,). cumulative[t] = energy of all nodes in rounds 0 ... t,
 * (rounds,). e: (n,), energy of one training round in Wh (or any unit: the same comes out), finite and >= 0. action:
 * (rounds, n) of 0 and 1. A round's sum runs over eight lanes of nodes in a fixed order: the same bits for every ISA
 * and number of threads. per_node is off by one rounding, cumulative[t] by at most (n / 8 + t + 4) eps relative. */
int cg_energy(size_t rounds, size_t n, const uint8_t *action, const double *e, double *per_node, double *cumulative,
              cg_err *err);

#ifdef __cplusplus
}
#endif
#endif

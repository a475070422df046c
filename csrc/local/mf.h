/* csrc/local/mf.h -- matrix factorization whose parameters are one row of a population: local SGD and evaluation.
 *
 * Prediction mean + b_u + b_i + p_u . q_i (Koren, Bell, Volinsky, "Matrix factorization techniques for recommender
 * systems", IEEE Computer 2009, eq. 4), or p_u . q_i alone. A row holds user factors (users, factors), item factors
 * (items, factors) and, with biases, user biases (users), item biases (items).
 *
 * The loss of a batch is the mean squared error over it, its gradient is taken at the parameters before the step, also
 * where a user or an item is in the batch twice: torch's MSELoss and SGD on dense embeddings. A step reads and writes
 * the factor rows of its own 2 B users and items only. Floor: 16 factors + 12 bytes moved a rating, from the cache that
 * holds the model. NaN and infinities in parameters end up in the results; they never stop or crash a kernel. */
#ifndef CG_MF_H
#define CG_MF_H
#include "mlp.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cg_mf {
    size_t users, items, factors;
    int biases;
    float mean;
    size_t parameters; /* P */
} cg_mf;

/* Fills *net. users, items: 1 ... 2^31 - 1; factors: 1 ... 2^20; P x 4 bytes in memory; mean finite: else CG_EVALUE. */
int cg_mf_set(cg_mf *net, int64_t users, int64_t items, int64_t factors, int biases, double mean, cg_err *err);

/* Ratings: pair (count, 2) is user and item, in [0, users) and [0, items); rating (count). */
typedef struct cg_mf_ratings {
    size_t count;
    const int32_t *pair;
    const float *rating;
} cg_mf_ratings;

/* Row r of the models is node[r] and owns the ratings part_idx[part_ptr[r]] ... part_idx[part_ptr[r + 1] - 1]; batches
 * as in sample.h. */
typedef struct cg_mf_parts {
    size_t rows;                        /* must be the models' n */
    const int64_t *part_ptr, *part_idx; /* (rows + 1), (parts) */
    size_t parts;
    const int64_t *node; /* (rows), in [0, 2^32) */
    uint64_t seed;
    int64_t batch; /* >= 1 */
} cg_mf_parts;

/* `steps` SGD steps with row q of models->rows; steps_done[r] counts on. loss[q]: mean over the steps of the batch's
 * mean squared error before the step; NaN for a row without ratings or steps, which is left as it was.
 *
 * weight_decay is torch.optim.SGD's, of all P parameters at every step (w -= lr (g + weight_decay w)), not of touched
 * rows only. The factor common to all untouched parameters is kept apart and multiplied in once a call, so that a step
 * still touches its own rows only: with weight_decay above 0 a call costs one pass over the row more, and k calls of
 * one step equal one call of k steps up to rounding (without it, bit for bit). Needs lr weight_decay < 1.
 *
 * One row is one task: results do not depend on the number of threads. Everything is checked before anything changes;
 * what is written must not overlap what is read (CG_EALIAS). */
int cg_mf_train(const cg_mf *net, const cg_rows *models, const cg_mf_ratings *data, const cg_mf_parts *parts, double lr,
                double weight_decay, int64_t steps, int64_t *steps_done, double *loss, cg_err *err);

/* mse[q]: mean squared error of row q of models->rows over the ratings test_ptr[q] ... test_ptr[q + 1] - 1, or over all
 * where test_ptr is NULL. mean_of_batches[q]: the mean of the mean squared errors of consecutive batches of `batch`
 * ratings, the last one smaller: another number, which published figures are made of. No ratings: both NaN. test_ptr:
 * (count + 1), ascending, within data. Sums are taken in a fixed order, the same for any number of threads. */
int cg_mf_evaluate(const cg_mf *net, const cg_rows *models, const cg_mf_ratings *data, const int64_t *test_ptr,
                   int64_t batch, double *mse, double *mean_of_batches, cg_err *err);

/* For the two calls above. Ids of the `count` ratings at index (or 0 ... count - 1 where NULL): CG_EVALUE. */
int cg_mf_check_ids(const cg_mf *net, const cg_mf_ratings *data, const int64_t *index, size_t count, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
